"""Checks one argument against its schema and its accepted values.

The rules of the leaderboard's checker for Python (ShishirPatil/gorilla 6ea57973,
`ast_checker.py`). Its possible answers are called `options` here: the values a parameter may have,
including `""` if it may be omitted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Options = Sequence[Any]

_TYPES: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_IGNORED = str.maketrans("'", '"', " ,./-_*^")


def argument_fault(value: Any, schema: Mapping[str, Any], options: Options) -> tuple[str, str]:
    """The faults of an argument's type and of its value; each empty if there is none.

    Types are Python's and must match exactly: an integer is accepted as a float, but not inside a
    list, and `true` is not an integer. If the first option other than `""` has another type than
    the schema, a value of that type is accepted too, and is compared unchanged. Strings are
    compared in lower case without spaces and `, . / - _ * ^`, also as items of lists and in
    dictionaries, one level deep; lists are compared in order and numbers exactly.

    For a value of the wrong type both faults are the same.

    Args:
        value: the argument.
        schema: of its parameter: `type`, and `items` of an array.
        options: the accepted values.
    """
    value = _converted(value, schema["type"])
    outer, inner = _TYPES[schema["type"]], None
    if schema["type"] in ("array", "tuple"):
        inner = _TYPES[schema["items"]["type"]]
    fault = _type_fault(value, outer, inner, options)
    if fault:
        return fault, fault
    return "", _value_fault(value, outer, inner, options)


def _converted(value: Any, expected: str) -> Any:
    if expected == "tuple" and type(value) is tuple:
        return list(value)
    if expected == "float" and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return value
    return value


def _type_fault(value: Any, outer: type, inner: type | None, options: Options) -> str:
    listed = _listed_type(options)
    if type(value) is outer:
        if inner is None or any(_right_items(value, inner, option) for option in options):
            return ""
        return "type_error:nested" if listed is outer else "type_error:simple"
    return "" if listed is type(value) else "type_error:simple"


def _listed_type(options: Options) -> type | None:
    return next((type(option) for option in options if option != ""), None)


def _right_items(value: Sequence[Any], inner: type, option: Any) -> bool:
    """Whether each item has the schema's type or that of an option's items.

    Always true if the option is not a list.
    """
    if type(option) is not list:
        return True
    listed = _listed_type(option)
    return all(type(item) is inner or type(item) is listed for item in value)


def _value_fault(value: Any, outer: type, inner: type | None, options: Options) -> str:
    listed = _listed_type(options)
    if listed is None or listed is outer:
        if outer is dict:
            return _dict_fault(value, options)
        if outer is list and inner is dict:
            return _dicts_fault(value, options)
        if outer is str:
            strings = [_plain(option) for option in options if type(option) is str]
            return "" if _plain(value) in strings else "value_error:string"
        if outer is list:
            lists = [_plain_items(option) for option in options if isinstance(option, list | str)]
            return "" if _plain_items(value) in lists else "value_error:list/tuple"
    return "" if value in options else "value_error:others"


def _plain(value: Any) -> Any:
    """A string without the ignored characters, in lower case; anything else unchanged."""
    return value.translate(_IGNORED).lower() if type(value) is str else value


def _plain_items(values: Sequence[Any]) -> list[Any]:
    return [_plain(value) for value in values]


def _dict_fault(value: Any, options: Options) -> str:
    fault = "dict_checker:unclear"
    for option in options:
        if isinstance(value, dict) and isinstance(option, dict):
            fault = _fault_against(value, option)
            if not fault:
                break
    return fault


def _fault_against(value: Mapping[str, Any], option: Mapping[str, Options]) -> str:
    """The fault of a dictionary against an accepted one, whose values are lists of options."""
    if any(key not in value and "" not in choices for key, choices in option.items()):
        return "value_error:dict_key"
    for key, item in value.items():
        if key not in option:
            return "value_error:dict_key"
        if _plain(item) not in _plain_items(option[key]):
            return "value_error:dict_value"
    return ""


def _dicts_fault(values: Sequence[Any], options: Options) -> str:
    """The fault of a list of dictionaries by position. An empty list matches the option `""`."""
    fault = "list_dict_checker:unclear"
    for option in options:
        fault = "value_error:list_dict_count"
        if len(option) == len(values):
            pairs = zip(values, option, strict=True)
            fault = next(filter(None, (_dict_fault(one, [other]) for one, other in pairs)), "")
        if not fault:
            break
    return fault
