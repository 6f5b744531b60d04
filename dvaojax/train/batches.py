"""The problems of step after step, tokenised ahead and laid onto the devices."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from dvaojax.data.text import encode_prompts
from dvaojax.train import hosts
from dvaojax.types import Prompt, PromptStream, Task


class Batch(NamedTuple):
    """Problems whose groups are drawn together.

    Attributes:
        prompts: those of the groups that this process holds, by the groups' indices.
        tokens: `[B, P]` int32, padding on the right.
        lengths: `[B]` int32.
        serials: `[B]` int32, each problem's position in the stream; random keys follow from it.
        rows: `[B]` int, where what is known of each problem stands; all 0 where nothing is kept.
    """

    prompts: dict[int, Prompt]
    tokens: Array
    lengths: Array
    serials: Array
    rows: np.ndarray


class Batches:
    """Positions in the stream -> their problems, which follow from the positions alone.

    A process reads and encodes the problems of the groups that it holds, and no others.
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
        """Encodes nothing yet.

        Args:
            task: tokenizer and width of the prompts.
            stream: the order of the problems.
            sharding: of arrays whose leading axis is the groups'.
            prompts_per_step: `B`.
            kept: how many of the latest batches are held, so that asking again costs nothing.
            row_of: a problem's index to its row, where something is kept of each problem.
        """
        self._task, self._stream, self._sharding = task, stream, sharding
        self._row_of = row_of
        self.prompts_per_step = prompts_per_step
        self.share = hosts.share(sharding, prompts_per_step)
        self._at = functools.lru_cache(maxsize=kept)(self._encode)

    def from_position(self, first: int) -> Batch:
        """The `B` problems from a position on."""
        return self.at(range(first, first + self.prompts_per_step))

    def at(self, positions: Sequence[int]) -> Batch:
        """The problems at `B` positions."""
        return self._at(tuple(positions))

    def _encode(self, positions: tuple[int, ...]) -> Batch:
        count, width, held = len(positions), self._task.max_prompt_length, self.share.held
        prompts = self._stream.take(positions[i] for i in held)
        tokens, lengths = np.zeros((count, width), np.int32), np.zeros(count, np.int32)
        tokens[held], lengths[held] = encode_prompts(self._task.tokenizer, prompts, width=width)
        serials = np.array(positions, np.int32)
        arrays = hosts.place((tokens, lengths, serials), self._sharding)
        by_group = dict(zip(held.tolist(), prompts, strict=True))
        return Batch(by_group, *arrays, rows=self._rows(by_group, count))

    def _rows(self, prompts: Mapping[int, Prompt], count: int) -> np.ndarray:
        """The same in every process."""
        if self._row_of is None:
            return np.zeros(count, np.int32)
        scored = self.share.scored
        rows = np.array([self._row_of[prompts[i].index] for i in scored], np.int32)
        return hosts.assemble(rows, scored, count)
