"""Mathematics with answers as strings: GSM8K, MATH-500, OlympiadBench and DAPO-Math-17k."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.rows import SourceRow
from dvaojax.data.sources.published import GITHUB, DataSet, File, by_split

_CALCULATOR = re.compile(r"<<[^<>]*>>")

# Up to this size every integer is exactly representable as float64.
_LARGEST_EXACT = 2**53


def _gsm8k(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """The answer is the text after `####`, including commas between thousands."""
    for row in rows:
        parts = row.field("answer", str).split("####")
        if len(parts) != 2 or not parts[1].strip():
            row.refuse("answer", "does not end with one '#### ' and the answer")
        rationale = _CALCULATOR.sub("", parts[0]).strip()
        metadata = {"source": "gsm8k", "row": row.number, "rationale": rationale}
        yield ProblemRecord(user(row.field("question", str)), parts[1].strip(), metadata)


def _math500(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    for row in rows:
        metadata = {
            "source": "math500",
            "row": row.number,
            "subject": row.field("subject", str),
            "level": row.field("level", int),
            "unique_id": row.field("unique_id", str),
            "solution": row.field("solution", str),
        }
        yield ProblemRecord(user(row.field("problem", str)), row.field("answer", str), metadata)


def _olympiadbench(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    for row in rows:
        answers = row.strings("final_answer")
        if len(answers) != 1:
            row.refuse("final_answer", f"has {len(answers)} answers, not 1")
        context = row.values.get("context")
        question = row.field("question", str)
        metadata = {
            "source": "olympiadbench",
            "row": row.number,
            "id": row.field("id", int),
            "subfield": row.field("subfield", str),
            "answer_type": row.field("answer_type", str),
            "is_multiple_answer": row.field("is_multiple_answer", bool),
            "unit": row.values.get("unit"),
            "error": row.values.get("error"),
            "solution": row.strings("solution"),
        }
        prompt = user(f"{context}\n\n{question}" if context else question)
        yield ProblemRecord(prompt, _without_dollars(answers[0]), metadata)


def _without_dollars(answer: str) -> str:
    """A single `$...$` span without its dollar signs; other text unchanged."""
    span = answer.strip().removesuffix(".") if answer.count("$") == 2 else ""
    return span[1:-1].strip() if span.startswith("$") and span.endswith("$") else answer


def _dapo(rows: Iterable[SourceRow], noted: Counter[str]) -> Iterator[ProblemRecord]:
    """Each problem once, without problems whose label is unreliable.

    Problems with two different labels are dropped, and so are those with a label above 2^53 that is
    exactly a float64: an integer of that size was most likely rounded when it was read as a float,
    and is then wrong by up to millions.
    """
    read: dict[str, list[tuple[int, int, str]]] = {}
    for row in rows:
        prompt = row.field("prompt", list)
        if not prompt or not isinstance(prompt[-1], dict):
            row.refuse("prompt", "has no message")
        problem = prompt[-1].get("content")
        label = row.field("reward_model.ground_truth", str)
        if not isinstance(problem, str):
            row.refuse("prompt", "has no content that is a string")
        if not re.fullmatch(r"-?[0-9]{1,4000}", label):
            row.refuse("reward_model.ground_truth", f"is {label[:40]!r}, not an integer")
        index = row.field("extra_info.index", int)
        read.setdefault(problem, []).append((row.number, index, label))
    for problem, copies in read.items():
        noted["repeated problems left out"] += len(copies) - 1
        labels = {int(label) for *_, label in copies}
        label = labels.pop()
        if labels:
            noted["problems with conflicting labels left out"] += 1
        elif abs(label) > _LARGEST_EXACT and int(float(label)) == label:
            noted["labels rounded through float64 left out"] += 1
        else:
            number, index, _ = copies[0]
            metadata = {"source": "dapo_math_17k", "row": number, "index": index}
            yield ProblemRecord(user(problem), str(label), metadata)


GSM8K = DataSet(
    name="gsm8k",
    title="grade-school word problems with integer answers",
    licence="MIT",
    files={
        split: File(
            (f"{split}.jsonl",),
            f"{GITHUB}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c"
            f"/grade_school_math/data/{split}.jsonl",
            sha256,
        )
        for split, sha256 in (
            ("train", "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
            ("test", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
        )
    },
    parse=by_split(_gsm8k),
)
"""Cobbe et al., arXiv 2110.14168; the authors' repository."""

MATH500 = DataSet(
    name="math500",
    title="500 problems of the MATH test set",
    licence="MIT; the problems are from contests of AoPS and MAA, who were not asked",
    files={
        "test": File(
            ("test.jsonl",),
            f"{GITHUB}/hkust-nlp/simpleRL-reason/cf1c7858bfc145a27aa733e75d930d34f0d318a6"
            "/examples/simplelr_math_eval/data/math500/test.jsonl",
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
        )
    },
    parse=by_split(_math500),
)
"""Lightman et al., arXiv 2305.20050, from MATH (Hendrycks et al., arXiv 2103.03874); copy in
hkust-nlp/simpleRL-reason cf1c7858."""

OLYMPIADBENCH = DataSet(
    name="olympiadbench",
    title="olympiad mathematics in English, text only, with final answers",
    licence="MIT",
    files={
        "test": File(
            ("test.jsonl",),
            f"{GITHUB}/QwenLM/Qwen2.5-Math/a45202bd16f1ec06f433442dc1152d0074773465"
            "/evaluation/data/olympiadbench/test.jsonl",
            "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416",
        )
    },
    parse=by_split(_olympiadbench),
)
"""He et al., arXiv 2402.14008; copy in QwenLM/Qwen2.5-Math a45202bd."""

DAPO_MATH_17K = DataSet(
    name="dapo_math_17k",
    title="contest problems with integer answers, for training",
    licence="Apache-2.0 by the repository; the problems were collected from contest sites",
    files={
        "train": File(
            ("dapo_math_17k.parquet",),
            f"{GITHUB}/MasterVito/SvS/9fd8f35375b31b8632b52e715296c264a3ad4176"
            "/data/dapo_math_17k.parquet",
            "246ae23df97c9eae8126cb4da780e9a0a31d10110e16eed144bcecbf2132d535",
        )
    },
    parse=by_split(_dapo),
)
"""Yu et al., arXiv 2503.14476; copy in MasterVito/SvS 9fd8f353, with each problem once."""
