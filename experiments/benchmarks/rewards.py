"""Mathematics answers: agreement with math-verify and with labels, and time by kind of answer.

Claims under test: `accuracy` agrees with every label, and grades 10,000 answers in less than 20
seconds on two cores.

    python experiments/benchmarks/rewards.py
    python experiments/benchmarks/rewards.py --json figures.json

The labels are rows `{"gold", "response", "recommended", "note"}` of `math_equivalence.jsonl` in the
directory `--labels`, which is not part of the repository; without it only the rest is done. Rows in
which `accuracy` differs from its label or from math-verify are printed with the note that says why.

The other answers are generated from one seed. Of every kind, a third equal the reference, a third
are the same value in another notation, and a third are another value; each is in a box after 2,500
characters of reasoning. Nearly all differ, so that caches have little effect. The time of
`accuracy` includes its calls of math-verify; `accuracy_math_verify` is timed on every tenth answer.

Needs: any machine, about a minute.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dvaojax.rewards import RewardSuite
from dvaojax.rewards.mathematics import accuracy, accuracy_math_verify
from dvaojax.types import Completion, Prompt

ANSWERS, SECONDS, WORKERS = 10_000, 20.0, 2
LABELS = Path(__file__).parents[3] / "shared" / "data" / "edge_cases"
WORK = "We compute $x = \\frac{1}{2}$, and so on. " * 60


class AnswerCase(NamedTuple):
    """A reference answer, the same value in another notation, and another value."""

    gold: str
    equivalent: str
    wrong: str


def answer_case(kind: str, a: int, b: int, c: int) -> AnswerCase:
    """One case of a kind, from three integers between 2 and 9,999."""
    match kind:
        case "integer":
            return AnswerCase(f"{a * b}", f"{a * b:,}.0", f"{a * b + 1}")
        case "fraction":
            return AnswerCase(
                rf"\frac{{{a}}}{{{b}}}", f"{7 * a}/{7 * b}", rf"\frac{{{a}}}{{{b + 1}}}"
            )
        case "root":
            return AnswerCase(
                rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", rf"{a}\sqrt{{{b + 1}}}"
            )
        case "polynomial":
            return AnswerCase(f"(x+{a})(x-{b})", f"x^2+{a}x-{b}x-{a * b}", f"(x+{a})(x+{b})")
        case "list":
            return AnswerCase(f"{a}, {b}, -{c}", f"-{c},{b},{a}.0", f"{a}, {b}, {c}")
        case "tuple":
            return AnswerCase(f"({a}, {b})", rf"\left({a},{b}\right)", f"({b}, {a + 1})")
        case "matrix":
            matrix = r"\begin{{pmatrix}} {} & {} \\ {} & 1 \end{{pmatrix}}".format
            return AnswerCase(matrix(a, b, c), matrix(f"{a}.0", b, c), matrix(a, c, b + 1))
        case "equation":
            return AnswerCase(f"{a}x - {b}y = {c}", f"-{a}x+{b}y+{c}=0", f"{a}x + {b}y = {c}")
        case "words":
            return AnswerCase(rf"\text{{Anna {a}}}", f"anna {a}", f"Bert {b}")
        case _:  # an interval, but not for math-verify
            return AnswerCase(rf"x \le {a}", rf"{a} \ge x", rf"x < {a}")


KINDS = (
    *("integer", "fraction", "root", "polynomial", "list", "tuple", "matrix", "equation", "words"),
    "inequality",
)
SHARES = dict.fromkeys(KINDS, 0.11) | {"inequality": 0.01}


class LabelledRow(NamedTuple):
    """One labelled response with both verdicts; a label of None leaves the question open."""

    gold: str
    response: str
    note: str
    label: bool | None
    accuracy: bool
    math_verify: bool


def labelled_rows(directory: Path) -> list[LabelledRow]:
    """All labelled responses, graded; none if the directory is absent."""
    path = directory / "math_equivalence.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        row = json.loads(line)
        completion = Completion(row["response"], (0,), True)
        verdicts = [reward(completion, row["gold"]) for reward in (accuracy, accuracy_math_verify)]
        rows.append(
            LabelledRow(
                row["gold"],
                row["response"],
                row["note"],
                row["recommended"],
                *(verdict == 1.0 for verdict in verdicts),
            )
        )
    return rows


def print_agreement(rows: Sequence[LabelledRow]) -> None:
    """How many rows agree, and those that do not, with the note of the label."""
    labelled = [row for row in rows if row.label is not None]
    for name, count, of in (
        ("accuracy agrees with the label", sum(r.accuracy == r.label for r in labelled), labelled),
        ("math-verify does", sum(r.math_verify == r.label for r in labelled), labelled),
        ("the two agree", sum(r.accuracy == r.math_verify for r in rows), rows),
    ):
        print(f"{name} in {count} of {len(of)} rows")
    table = Table("gold", "response", "label", "accuracy", "math-verify", "why", title="differing")
    verdict = {True: "right", False: "wrong", None: "open"}
    for row in rows:
        if row.accuracy != row.math_verify or row.accuracy != row.label is not None:
            short = row.response if len(row.response) < 40 else f"...{row.response[-36:]}"
            verdicts = (verdict[row.label], verdict[row.accuracy], verdict[row.math_verify])
            table.add_row(*map(escape, (row.gold, short, *verdicts, row.note)))
    Console(width=150).print(table)


def calls_of(kind: str, count: int) -> list[tuple[Completion, str]]:
    """Completions with their reference answers."""
    generator = random.Random(kind)
    calls = []
    for number in range(count):
        case = answer_case(kind, *(generator.randrange(2, 10_000) for _ in range(3)))
        answer = (case.gold, case.equivalent, case.wrong)[number % 3]
        calls.append((Completion(f"{WORK}$\\boxed{{{answer}}}$", (0,), True), case.gold))
    return calls


def seconds_for(
    reward: Callable[[Completion, str], float], calls: Sequence[tuple[Completion, str]]
) -> tuple[float, float]:
    """Seconds for all calls in sequence, and the mean reward."""
    start = time.perf_counter()
    rewards = [reward(completion, gold) for completion, gold in calls]
    return time.perf_counter() - start, sum(rewards) / len(rewards)


def seconds_in_a_suite(calls: Sequence[tuple[Completion, str]]) -> float:
    """Seconds for all calls in worker processes that are already started."""
    with RewardSuite({"accuracy": accuracy}, workers=WORKERS, timeout_seconds=60) as suite:
        for timed in (calls[-100:], calls):
            start = time.perf_counter()
            prompts = [Prompt("", gold, n) for n, (_, gold) in enumerate(timed)]
            suite.score([[completion] for completion, _ in timed], prompts)
    return time.perf_counter() - start


def everything(answers: int) -> list[tuple[Completion, str]]:
    """So many answers of all kinds, shuffled."""
    calls = [call for kind in KINDS for call in calls_of(kind, round(answers * SHARES[kind]))]
    random.Random(0).shuffle(calls)
    return calls


def processor_seconds(answers: int) -> float:
    """Processor time for all answers in a process of its own, with math-verify's and both starts.

    Does not depend on what else the machine does, unlike the other figures.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import rewards; "
        f"rewards.seconds_for(rewards.accuracy, rewards.everything({answers}))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measured(answers: int) -> dict[str, Mapping[str, float]]:
    """Milliseconds per answer and mean rewards, for each kind, of so many answers of all kinds."""
    report: dict[str, Mapping[str, float]] = {}
    # The first call starts math-verify's process.
    accuracy_math_verify(*calls_of("integer", 1)[0])
    for kind in KINDS:
        calls = calls_of(kind, round(answers * SHARES[kind]))
        seconds, reward = seconds_for(accuracy, calls)
        verify_seconds, verify_reward = seconds_for(accuracy_math_verify, calls[::10])
        report[kind] = {
            "answers": len(calls),
            "accuracy_ms": 1_000 * seconds / len(calls),
            "accuracy_reward": reward,
            "math_verify_ms": 1_000 * verify_seconds / len(calls[::10]),
            "math_verify_reward": verify_reward,
        }
    return report


def main() -> int:
    """Grades and times everything, prints the tables; returns 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=int, default=ANSWERS, help="number of answers timed")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--labels", type=Path, default=LABELS, help="directory with the labels")
    arguments = parser.parse_args()

    rows = labelled_rows(arguments.labels)
    if rows:
        print_agreement(rows)
    contradicted = any(row.label is not None and row.accuracy != row.label for row in rows)

    processor = processor_seconds(arguments.answers)
    calls = everything(arguments.answers)
    in_workers = seconds_in_a_suite(calls)
    report = measured(arguments.answers)

    table = Table("kind of answer", title="milliseconds per answer, one process")
    for column in ("answers", "accuracy", "mean reward", "math-verify", "mean reward"):
        table.add_column(column, justify="right")
    for kind, row in report.items():
        table.add_row(
            kind,
            f"{row['answers']:,.0f}",
            f"{row['accuracy_ms']:.2f}",
            f"{row['accuracy_reward']:.2f}",
            f"{row['math_verify_ms']:.1f}",
            f"{row['math_verify_reward']:.2f}",
        )
    Console().print(table)
    here = sum(row["answers"] * row["accuracy_ms"] / 1_000 for row in report.values())
    print(
        f"accuracy, {len(calls):,} answers: {processor:.1f} s of processor time, "
        f"{here:.1f} s in one process"
    )
    print(f"and {in_workers:.1f} s with {WORKERS} worker processes (target {SECONDS:.0f} s)")
    if arguments.json:
        totals = {
            "one_process_seconds": here,
            "processor_seconds": processor,
            "suite_seconds": in_workers,
            "labels": [row._asdict() for row in rows],
        }
        arguments.json.write_text(json.dumps({"kinds": report, **totals}, indent=2) + "\n")
    return int(in_workers >= SECONDS or contradicted)


if __name__ == "__main__":
    sys.exit(main())
