"""Batches of prompts, tokenized ahead of time and placed on the devices."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from dvaojax.data.text import encode_prompts
from dvaojax.train import hosts
from dvaojax.types import Prompt, PromptStream, Task, TaskWithHints, TaskWithStream

_CHECKED_PROMPTS = 4096
_LEVEL = 2**28  # more than the positions of any run, so that no two serials are equal


def check_prompts(task: Task) -> None:
    """Encodes the first problems of both splits, before anything is written.

    A task that orders its problems itself has already encoded them, to leave out the long ones.

    Raises:
        UserError: a prompt is too long, or has a character that the tokenizer lacks.
    """
    if not isinstance(task, TaskWithStream):
        for split in ("train", "test"):
            prompts = list(task.prompts(split))[:_CHECKED_PROMPTS]
            encode_prompts(task.tokenizer, prompts, width=task.max_prompt_length)


class PromptBatch(NamedTuple):
    """Problems whose groups are sampled together.

    Attributes:
        prompts: group index -> problem, for the groups on this process's devices.
        tokens: `[B, P]` int32, padding on the right.
        lengths: `[B]` int32.
        serials: `[B]` int32, each problem's position in the stream, and at a level of hints so many
            times 2^28 more; random keys are derived from it.
        rows: `[B]` int, each problem's row in the statistics; all 0 where none are kept.
    """

    prompts: dict[int, Prompt]
    tokens: Array
    lengths: Array
    serials: Array
    rows: np.ndarray


class PromptBatches:
    """Maps positions in the stream to batches, which depend on the positions only.

    A process reads and encodes only the problems of the groups on its own devices.
    """

    def __init__(
        self,
        task: Task,
        stream: PromptStream,
        sharding: jax.sharding.NamedSharding,
        *,
        prompts_per_step: int,
        kept: int,
        row_of: Mapping[int, int] | None = None,
    ):
        """Prepares the batches; nothing is encoded yet.

        Args:
            task: tokenizer and width of the prompts.
            stream: the order of the problems.
            sharding: of arrays whose leading axis is the groups.
            prompts_per_step: `B`.
            kept: number of recent batches to cache.
            row_of: index of a problem -> its row in the statistics, where statistics are kept.
        """
        self._task, self._stream, self._sharding = task, stream, sharding
        self._row_of = row_of
        self.prompts_per_step = prompts_per_step
        self.share = hosts.share(sharding, prompts_per_step)
        self._at = functools.lru_cache(maxsize=kept)(self._encode)

    def from_position(self, first: int) -> PromptBatch:
        """The `B` problems from a position on."""
        return self.at(range(first, first + self.prompts_per_step))

    def at(
        self,
        positions: Sequence[int],
        *,
        sources: Sequence[int] | None = None,
        levels: Sequence[int] | None = None,
    ) -> PromptBatch:
        """The problems at `B` positions.

        Args:
            positions: of the run, which random keys are derived from.
            sources: the positions of the problems in the stream, if they are others.
            levels: of the hint of each problem, 0 for none; None gives no hints.
        """
        positions = tuple(positions)
        own = positions if sources is None else tuple(sources)
        return self._at(positions, own, tuple(levels or [0] * len(positions)))

    def _encode(
        self, positions: tuple[int, ...], sources: tuple[int, ...], levels: tuple[int, ...]
    ) -> PromptBatch:
        count, width, held = len(positions), self._task.max_prompt_length, self.share.held
        unhinted = self._stream.take(sources[i] for i in held)
        prompts = [
            self._hinted(prompt, levels[i]) for i, prompt in zip(held, unhinted, strict=True)
        ]
        tokens, lengths = np.zeros((count, width), np.int32), np.zeros(count, np.int32)
        tokens[held], lengths[held] = encode_prompts(self._task.tokenizer, prompts, width=width)
        serials = np.array(positions, np.int32) + np.array(levels, np.int32) * _LEVEL
        arrays = hosts.place((tokens, lengths, serials), self._sharding)
        by_group = dict(zip(held.tolist(), prompts, strict=True))
        return PromptBatch(by_group, *arrays, rows=self._rows(by_group, count))

    def _hinted(self, prompt: Prompt, level: int) -> Prompt:
        if not level:
            return prompt
        assert isinstance(self._task, TaskWithHints)
        return self._task.hinted(prompt, level)

    def _rows(self, prompts: Mapping[int, Prompt], count: int) -> np.ndarray:
        """Rows `[B]` of all problems of the batch, equal in every process."""
        if self._row_of is None:
            return np.zeros(count, np.int32)
        scored = self.share.scored
        rows = np.array([self._row_of[prompts[i].index] for i in scored], np.int32)
        return hosts.assemble(rows, scored, count)
