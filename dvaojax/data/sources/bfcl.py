"""The Berkeley function calling leaderboard, version 4: its single-turn categories in Python.

The right answer is one call (`simple_python`, `multiple`), several (`parallel`), none
(`irrelevance`), or any call (`live_relevance`); `live_` questions are from users. The categories
in Java and JavaScript and those with several turns are not included.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvaojax.data import rows
from dvaojax.data.records import ProblemRecord, messages
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import GITHUB, DataSet, File
from dvaojax.errors import UserError

_BFCL = (
    f"{GITHUB}/ShishirPatil/gorilla/6ea57973c7a6097fd7c5915698c54c17c5b1b6c8"
    "/berkeley-function-call-leaderboard/bfcl_eval/data"
)

# Category -> SHA-256 of its questions and of its answers; empty if the category has no answers.
_SHA256 = {
    "simple_python": (
        "82dd63ba502eb2520c6b5d1d9a5c4b590e03ff261565175561f6228a367d1991",
        "90cd5bc653690ee8e459b5b3f3fc9458606f7f3fcbf795bb51b7dc581f8c86dc",
    ),
    "multiple": (
        "aef168155ebd74b7ac2401198b201343bc7d16d7a3d7e0d4e6d8ee82c6969b2a",
        "244e00ce9395df948bcafc7bee64e8f9c87ef70887587d83cae45b13699f3047",
    ),
    "parallel": (
        "19f51a82eff42e5d62541aa500115a056eb78f437c2ba1f10415fd7c8e5dda84",
        "8a6aa19c1adddc6a5a2f7e40f9dbf30cc7e95815e7b830c90589ab318229e0f0",
    ),
    "parallel_multiple": (
        "8863ea8433239f55c5f016154cf0830853c89f693c6ea270396a2fa121960579",
        "5ebf24f458c1f16300c05505d83d6f0a1b68b79be273a033febd0d4f840507e3",
    ),
    "irrelevance": ("2b6ed4c2e992cdcf5f1678a701851f944bef7550ee026ed1ddb89efed5be01a6", ""),
    "live_simple": (
        "1af2ac87dca47556db7b7e37e51e28b459a38b594e3c7b3c792b4903598ca0c4",
        "fec9cfa9744a936f9126981e85a2023da1e63e273eafebc81923a1162fad70ce",
    ),
    "live_multiple": (
        "fd8ccfad4d911420d0e3341dbe2fff77d1d341da934248b9bb2bda24ab3a10c8",
        "97e90d59c5bd76c55a2920ce93e5566e9046307d3f558578f085f9d3a56c3084",
    ),
    "live_parallel": (
        "6c26e9fdc3350cf596e6d1ea9c179cbff834761bccf562f4141ed29a839ca421",
        "8a9f189ff0e832ebbbbdade1fd95a7dbcc67406e9177df3f0aad76f59ab00350",
    ),
    "live_parallel_multiple": (
        "21d4b9319c1faac431e22757b367ea28917fe467364c3a4b17f16ec06d4f6e79",
        "f5b5f360556c5feb51db46fb9f56ee4b304f4b45b161599bbb14161c98a2873f",
    ),
    "live_irrelevance": ("6559fda2beaceb609a2cd2e504c65b4a56cb448e1ef88fddfd199e163d163349", ""),
    "live_relevance": ("e03f9e241657a137cba48a89ee12f47bf3fcb7e4f6274263e9c699a0c974203a", ""),
}
_ANSWERS = " answers"  # suffix of the key of a category's answers


def _parse(paths: Mapping[str, Path], noted: Counter[str]) -> dict[str, list[ProblemRecord]]:
    """All categories in one split; the metadata of a record names its category."""
    records: list[ProblemRecord] = []
    for category, (_, answers_sha256) in _SHA256.items():
        questions, answers = paths.get(category), paths.get(category + _ANSWERS)
        if questions is None:
            continue
        if answers_sha256 and answers is None:
            raise UserError(f"{questions} needs possible_answer/{questions.name}, which is missing")
        golds = {} if answers is None else _golds(answers)
        records += _records(category, questions, golds, noted)
    return {"test": records}


def _golds(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Id of a question -> the expected calls, each `{function: {parameter: [accepted values]}}`."""
    golds = {}
    for row in rows.read(path):
        gold = row.field("ground_truth", list)
        if not gold or not all(_is_gold(call) for call in gold):
            row.refuse("ground_truth", "is not a list of {function: {parameter: [values]}}")
        golds[row.field("id", str)] = gold
    return golds


def _is_gold(call: Any) -> bool:
    if not isinstance(call, dict) or len(call) != 1:
        return False
    (parameters,) = call.values()
    return isinstance(parameters, dict) and all(isinstance(v, list) for v in parameters.values())


def _is_function(value: Any) -> bool:
    match value:
        case {"name": str(), "parameters": {"properties": dict()}}:
            return True
        case _:
            return False


def _records(
    category: str, path: Path, golds: Mapping[str, list[dict[str, Any]]], noted: Counter[str]
) -> Iterator[ProblemRecord]:
    for row in rows.read(path):
        turns = row.field("question", list)
        if len(turns) != 1:
            row.refuse("question", f"has {len(turns)} turns, not 1")
        prompt = messages(row._replace(values={"question": turns[0]}), "question")
        identity, functions = row.field("id", str), row.field("function", list)
        if not all(_is_function(function) for function in functions):
            row.refuse("function", "is not a list of objects with a name and parameters")
        if golds and identity not in golds:
            row.refuse("id", f"is {identity!r}, which has no ground truth")
        gold = golds.get(identity, None if "_relevance" in category else [])
        if any(_is_impossible(row, call, functions) for call in gold or ()):
            noted["questions that no call can answer left out"] += 1
            continue
        metadata = {
            "source": "bfcl",
            "row": row.number,
            "id": identity,
            "category": category,
            "function": functions,
        }
        yield ProblemRecord(prompt, gold, metadata)


def _is_impossible(row: SourceRow, gold: Mapping[str, Any], functions: list[Any]) -> bool:
    """Whether no call can pass, because a needed parameter has no accepted value.

    A parameter is needed if the function requires it, or if omission, `""`, is not among the
    accepted values. It is accepted only if both the function and the ground truth have it.
    """
    ((name, accepted),) = gold.items()
    schemas = [function["parameters"] for function in functions if function["name"] == name]
    if not schemas:
        row.refuse("function", f"does not describe {name!r}, which the ground truth calls")
    known, required = schemas[0]["properties"], set(schemas[0].get("required", ()))
    needed = required | {p for p, values in accepted.items() if "" not in values}
    return any(not accepted.get(p) or p not in known for p in needed)


def _files() -> dict[str, File]:
    files = {}
    for category, (questions, answers) in _SHA256.items():
        # Some copies contain only the first questions of the largest category.
        names = (f"BFCL_v4_{category}.json", f"BFCL_v4_{category}_first200.json")
        files[category] = File(names, f"{_BFCL}/{names[0]}", questions)
        if answers:
            names = tuple(f"possible_answer/{name}" for name in names)
            files[category + _ANSWERS] = File(names, f"{_BFCL}/{names[0]}", answers)
    return files


BFCL = DataSet(
    name="bfcl",
    title="Berkeley function calling leaderboard v4, single-turn, in Python",
    licence="Apache-2.0",
    files=_files(),
    parse=_parse,
)
"""ShishirPatil/gorilla 6ea57973, the authors' repository."""
