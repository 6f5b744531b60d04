"""What every task of prepared data has in common: sets, a tokenizer and a limit."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from dvaojax.data import prepared
from dvaojax.data.grain_stream import GrainStream
from dvaojax.data.lengths import Selection, select
from dvaojax.data.records import Message, ProblemRecord
from dvaojax.data.tokenizers import PretrainedTokenizer, Thinking, opens_thought
from dvaojax.errors import UserError
from dvaojax.types import Prompt


def with_instruction(messages: Sequence[Message], instruction: str) -> Sequence[Message]:
    """The messages with an instruction at the end of the last; as they are for an empty one."""
    *before, last = messages
    content = f"{last['content']}\n\n{instruction}" if instruction else last["content"]
    return (*before, {**last, "content": content})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """Problems of prepared sets as a model's chat template asks them.

    A task derives from it and says what is asked of a record (`messages`) and what an answer is
    held against (`reference`). Nothing is read before the problems are asked for.

    Attributes:
        tokenizer: of the model that answers.
        train: the set that is trained on, its split "train" unless its name says another, as
            "toolrl/sft" does; empty for a task that only evaluates.
        test: the sets that are evaluated, their splits "test" likewise; each is a category.
        data_dir: where `dvaojax data prepare` put them; empty for its default.
        max_prompt_length: in tokens, the template's included.
        on_long: what becomes of longer prompts: "drop" leaves them out and `notes` says how many,
            "refuse" stops the run.
        thinking: "on" or "off" where the model's template leaves the choice; "default" is its own.
        opened: "<think>" where the prompts end with that tag already, so that completions have
            none; what the template does is checked against it.

    Raises:
        ValueError: the limit is below 1, or there is no set to evaluate.
    """

    tokenizer: PretrainedTokenizer
    train: str
    test: tuple[str, ...]
    data_dir: str = ""
    max_prompt_length: int = 1024
    on_long: Literal["drop", "refuse"] = "drop"
    thinking: Literal["default", "on", "off"] = "default"
    opened: Literal["", "<think>"] = ""

    def __post_init__(self):
        if self.max_prompt_length < 1:
            raise ValueError(f"task.max_prompt_length={self.max_prompt_length} must be at least 1")
        if not self.test:
            raise ValueError("task.test names no set to evaluate")

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """What is asked."""
        return record.prompt

    def tools(self, record: ProblemRecord) -> Sequence[Any] | None:
        """The functions that the template offers; None where it offers none."""
        return None

    def reference(self, record: ProblemRecord) -> Any:
        """What the reward functions hold an answer against."""
        return record.answer

    def category(self, record: ProblemRecord) -> str:
        """What an evaluation reports the problem under: its set."""
        return str(record.metadata["source"])

    def prompts(self, split: str) -> Sequence[Prompt]:
        """The problems of "train" or "test" that are not too long.

        Raises:
            UserError: a set has not been prepared, the files of the tokenizer are not there, or
                its template does not write what `opened` says.
            ValueError: there is no such split.
        """
        return self._selection(split).kept

    def stream(self, split: str, seed: int) -> GrainStream:
        """The problems of a split in the order that Grain makes; raises what `prompts` does."""
        return GrainStream(self.prompts(split), seed)

    def notes(self, split: str) -> Sequence[str]:
        """How many prompts of a split were too long."""
        return [f"{split}: {self._selection(split).in_words()}"]

    def records(self, name: str, split: str) -> Sequence[ProblemRecord]:
        """A prepared set's records, of the split that its name says or else of the one given."""
        name, _, named = name.partition("/")
        return prepared.read(name, named or split, data_dir=self.data_dir)

    def _selection(self, split: str) -> Selection:
        if split not in ("train", "test"):
            raise ValueError(f"split {split!r} is neither 'train' nor 'test'")
        return self._training if split == "train" else self._held_out

    @cached_property
    def _training(self) -> Selection:
        names = (self.train,) if self.train else ()
        return self._select(names, "train")

    @cached_property
    def _held_out(self) -> Selection:
        return self._select(self.test, "test")

    def _select(self, names: Sequence[str], split: str) -> Selection:
        records = chain.from_iterable(self.records(name, split) for name in names)
        prompts = [self._prompt(record, index) for index, record in enumerate(records)]
        return select(prompts, self.tokenizer, limit=self.max_prompt_length, on_long=self.on_long)

    def _prompt(self, record: ProblemRecord, index: int) -> Prompt:
        thinking: Thinking | None = None if self.thinking == "default" else self.thinking
        text = self.tokenizer.chat(
            self.messages(record), tools=self.tools(record), thinking=thinking
        )
        opened = "<think>" if opens_thought(text) else ""
        if opened != self.opened:
            raise UserError(
                f"task.opened={self.opened!r}, but the chat template of {self.tokenizer.path} ends "
                f"its prompts with {opened or 'no open thought'!r}: set task.opened={opened}"
            )
        return Prompt(text, self.reference(record), index, self.category(record))
