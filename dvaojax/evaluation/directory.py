"""Output directory of an evaluation, which can be resumed after a kill.

DIRECTORY/
  settings.json      policy and settings; an evaluation with other settings is refused
  completions.jsonl  one completion per line with every reward, appended batch by batch
  summary.json       every measure, written at the end
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvaojax import files
from dvaojax.errors import UserError
from dvaojax.evaluation.held_out import AnsweredProblem
from dvaojax.run import lock
from dvaojax.run.description import first_difference
from dvaojax.types import Completion, Prompt

SETTINGS = "settings.json"
COMPLETIONS = "completions.jsonl"


@dataclasses.dataclass(frozen=True)
class CompletionsLayout:
    """The order and content of the lines in `completions.jsonl`.

    Attributes:
        prompts: all problems, in order.
        samples: completions per problem, one line each.
        batch_size: problems sampled together.
        objectives: `K` names.
        answer: function from a completion to its answer, which is also written; None if the task
            defines no answers.
    """

    prompts: Sequence[Prompt]
    samples: int
    batch_size: int
    objectives: Sequence[str]
    answer: Callable[[Completion], str | None] | None = None


class EvaluationDirectory:
    """The directory of one evaluation.

    A batch is written at once. After a kill there are complete batches and at most one partial
    batch. The partial batch is removed when the directory is opened again, and sampled again with
    the same problems and random keys. The process holds the directory's lock (`run.lock`).

    Attributes:
        path: the directory.
        finished: the problems of complete batches.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], layout: CompletionsLayout):
        """Opens the directory, or creates it if it does not exist.

        Args:
            path: the directory.
            settings: everything that determines the completions and rewards, as JSON.
            layout: order and content of the lines.

        Raises:
            UserError: the directory has another evaluation, other files, or an invalid line.
        """
        self.path, self._layout = path, layout
        _claim(path, settings)
        self.finished = self._read()

    @property
    def completions(self) -> Path:
        """The file of completions, `completions.jsonl`."""
        return self.path / COMPLETIONS

    @property
    def summary(self) -> Path:
        """The file of measures, `summary.json`."""
        return self.path / files.SUMMARY

    def add(self, batch: Sequence[AnsweredProblem]) -> None:
        """Appends the next batch and marks its problems as finished."""
        first = len(self.finished)
        lines = [
            self._line(first + i, sample, problem)
            for i, problem in enumerate(batch)
            for sample in range(self._layout.samples)
        ]
        with self.completions.open("ab") as file:
            file.write(b"".join(lines))
        self.finished.extend(batch)

    def _line(self, number: int, sample: int, problem: AnsweredProblem) -> bytes:
        completion, rewards = problem.completions[sample], problem.rewards[sample].tolist()
        row = {
            "problem": number,
            "sample": sample,
            "index": problem.prompt.index,
            "category": problem.prompt.category,
            "prompt": problem.prompt.text,
            "completion": completion.text,
            "stopped": completion.stopped,
            "rewards": {
                name: None if np.isnan(reward) else reward
                for name, reward in zip(self._layout.objectives, rewards, strict=True)
            },
        }
        if self._layout.answer is not None:
            row["answer"] = self._layout.answer(completion)
        row["token_ids"] = completion.token_ids
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        # Lone surrogates cannot be encoded as UTF-8; write their JSON escape.
        return text.encode(errors="backslashreplace") + b"\n"

    def _read(self) -> list[AnsweredProblem]:
        """Reads the problems of complete batches and truncates the file after them."""
        if not self.completions.exists():
            return []
        content = self.completions.read_bytes()
        lines = content.split(b"\n")[:-1]
        samples, batch_size = self._layout.samples, self._layout.batch_size
        count = min(len(lines) // samples, len(self._layout.prompts))
        if count < len(self._layout.prompts):
            count = count // batch_size * batch_size
        size = sum(len(line) + 1 for line in lines[: count * samples])
        finished = [
            self._problem(number, lines[number * samples : (number + 1) * samples])
            for number in range(count)
        ]
        with self.completions.open("r+b") as file:
            file.truncate(size)
        return finished

    def _problem(self, number: int, lines: Sequence[bytes]) -> AnsweredProblem:
        """Reads one problem from its lines."""
        completions, rewards = [], []
        for sample, line in enumerate(lines):
            try:
                row = json.loads(line)
                if (row["problem"], row["sample"]) != (number, sample):
                    raise ValueError("out of order")
                tokens = tuple(row["token_ids"])
                completions.append(Completion(row["completion"], tokens, row["stopped"]))
                rewards.append([row["rewards"][name] for name in self._layout.objectives])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                line_number = number * self._layout.samples + sample + 1
                raise UserError(
                    f"{self.completions}:{line_number} is not sample {sample} of problem {number}"
                ) from error
        return AnsweredProblem(
            self._layout.prompts[number], completions, np.array(rewards, np.float32)
        )


def digest(value: Any) -> str:
    """A hash of a JSON value, eight hexadecimal digits."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def _claim(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings into a new directory, or compares them with those of an existing one."""
    file = path / SETTINGS
    if file.is_file():
        different = first_difference(files.read_json(file), json.loads(json.dumps(settings)))
        if different is not None:
            key, before, now = different
            raise UserError(
                f"{path} contains another evaluation: {key} was {before!r} and is {now!r}; "
                "choose another --out"
            )
        return
    unused = {files.partial_path(file).name, *lock.FILES}
    if path.exists() and (not path.is_dir() or {p.name for p in path.iterdir()} - unused):
        raise UserError(f"{path} exists and is not an evaluation: it has no {SETTINGS}")
    with files.creating(path):
        files.write_json(file, settings)
