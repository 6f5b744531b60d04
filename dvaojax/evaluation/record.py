"""An evaluation on disk: completions as they are made, so that a killed one goes on.

DIRECTORY/
  settings.json      what was evaluated and how; another evaluation cannot go on here
  completions.jsonl  one completion a line with every reward, appended batch by batch
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
from dvaojax.evaluation.held_out import Answered
from dvaojax.types import Completion, Prompt

SETTINGS = "settings.json"
COMPLETIONS = "completions.jsonl"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the lines of an evaluation's completions are.

    Attributes:
        prompts: all problems, in order.
        samples: completions, and so lines, of each.
        batch_size: problems sampled together.
        objectives: `K` names.
        answer: a completion's answer, written beside it; None where answers cannot be compared.
    """

    prompts: Sequence[Prompt]
    samples: int
    batch_size: int
    objectives: Sequence[str]
    answer: Callable[[Completion], str | None] | None = None


class Record:
    """The directory of one evaluation.

    A batch is finished when its last line is written, in one piece with the others. A kill leaves
    finished batches and at most a torn one, which is removed when the directory is opened again and
    sampled again, in the same company and with the same random keys.

    Attributes:
        path: the directory.
        finished: the problems of finished batches.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], layout: Layout):
        """Opens the directory, which is created where it does not exist.

        Args:
            path: where.
            settings: all that completions and rewards follow from, as JSON.
            layout: the lines that are to be written.

        Raises:
            UserError: another evaluation stands there, something else, or a broken line.
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

    def add(self, batch: Sequence[Answered]) -> None:
        """Writes the next batch; its problems are finished then."""
        first = len(self.finished)
        lines = [
            self._line(first + i, sample, problem)
            for i, problem in enumerate(batch)
            for sample in range(self._layout.samples)
        ]
        with self.completions.open("ab") as file:
            file.write(b"".join(lines))
        self.finished.extend(batch)

    def _line(self, number: int, sample: int, problem: Answered) -> bytes:
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
        # A lone surrogate, which is no character, becomes the escape that JSON has for it.
        return text.encode(errors="backslashreplace") + b"\n"

    def _read(self) -> list[Answered]:
        """The problems of finished batches; what else the file holds is removed."""
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

    def _problem(self, number: int, lines: Sequence[bytes]) -> Answered:
        """The problem of that number from its lines."""
        completions, rewards = [], []
        for sample, line in enumerate(lines):
            try:
                row = json.loads(line)
                if (row["problem"], row["sample"]) != (number, sample):
                    raise ValueError("out of order")
                tokens = tuple(row["token_ids"])
                completions.append(Completion(row["completion"], tokens, row["stopped"]))
                rewards.append([row["rewards"][name] for name in self._layout.objectives])
            except (ValueError, KeyError, TypeError) as error:
                line_number = number * self._layout.samples + sample + 1
                raise UserError(
                    f"{self.completions}:{line_number} is not sample {sample} of problem {number}"
                ) from error
        return Answered(self._layout.prompts[number], completions, np.array(rewards, np.float32))


def digest(value: Any) -> str:
    """Eight characters that tell one JSON value from another."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def _claim(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings into a new directory, or compares them with those of an old one."""
    place = path / SETTINGS
    if place.is_file():
        difference = _difference(files.read_json(place), json.loads(json.dumps(settings)))
        if difference:
            raise UserError(f"{path} holds another evaluation: {difference}; name another --out")
        return
    if path.exists() and (not path.is_dir() or set(path.iterdir()) - {files.partial(place)}):
        raise UserError(f"{path} exists and is not an evaluation: it has no {SETTINGS}")
    path.mkdir(parents=True, exist_ok=True)
    files.write_json(place, settings)


def _difference(before: Any, now: Any, key: str = "") -> str | None:
    """The first dotted key under which two JSON values differ, with both; None where none does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            inner = f"{key}.{name}" if key else name
            if found := _difference(before.get(name), now.get(name), inner):
                return found
        return None
    return None if before == now else f"{key} was {before!r} and is {now!r}"
