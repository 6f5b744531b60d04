"""A problem of the Berkeley function calling leaderboard, the reference of its rewards."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class WantedCall(NamedTuple):
    """One correct call with its function's schema.

    Attributes:
        name: of the function.
        properties: parameter -> its schema.
        required: parameters that the schema requires.
        options: parameter -> accepted values, including `""` if it may be omitted.
    """

    name: str
    properties: Mapping[str, Mapping[str, Any]]
    required: Sequence[str]
    options: Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class FunctionProblem:
    """The reference of every reward of this package; its parts are as in the dataset.

    Attributes:
        category: the name of the problem's set, such as "live_parallel"; it determines how calls
            are matched. The sets in Java and JavaScript are not offered: their values are text.
        functions: the available ones: `name`, and `parameters` with `properties` and `required`.
        answers: the correct calls, each `{name: {parameter: [accepted values]}}`; empty if the
            category only asks whether anything is called.
    """

    category: str
    functions: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Mapping[str, Sequence[Any]]]] = ()

    @property
    def in_any_order(self) -> bool:
        """Whether several calls are matched in any order; if not, only the first is compared."""
        return "parallel" in self.category

    @property
    def wanted(self) -> list[WantedCall]:
        """The correct calls.

        Raises:
            KeyError: a correct call uses a function that is not available.
        """
        # If two functions have the same name, the leaderboard uses the first.
        schemas = {each["name"]: each["parameters"] for each in reversed(self.functions)}
        return [
            WantedCall(name, schemas[name]["properties"], schemas[name]["required"], options)
            for answer in self.answers
            for name, options in answer.items()
        ]
