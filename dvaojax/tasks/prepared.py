"""Base class of tasks on prepared data: sets, a tokenizer and a limit of the prompt length."""

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
    """The messages with an instruction added to the last one; unchanged if it is empty."""
    *before, last = messages
    content = f"{last['content']}\n\n{instruction}" if instruction else last["content"]
    return (*before, {**last, "content": content})


def where_in_source(record: ProblemRecord) -> str:
    """The source of a record and its row, for messages."""
    return f"{record.metadata['source']}, row {record.metadata['row']}"


def shown_conversation(record: ProblemRecord) -> tuple[tuple[str, str], ...]:
    """Role and content of each message of a prompt, as a judge is shown them.

    Raises:
        UserError: a message has `tool_calls`, which would be left out.
    """
    if any(message.get("tool_calls") for message in record.prompt):
        where = where_in_source(record)
        raise UserError(f"{where}: the judge is not shown the tool_calls of a message")
    return tuple((message["role"], message["content"]) for message in record.prompt)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedTask:
    """Problems of prepared sets, formatted with a model's chat template.

    Subclasses define the prompt of a record (`messages`) and the reference of its answer
    (`reference`). Files are read when the problems are first requested.

    Attributes:
        tokenizer: of the policy.
        train: the training set, with its split "train" unless the name contains another, such as
            "toolrl/sft"; empty for a task that only evaluates.
        test: the evaluation sets, with their splits "test" likewise; each is a category.
        data_dir: output folder of `dvaojax data prepare`, or its copy in a bucket, `gs://...`;
            empty for the default.
        max_prompt_length: in tokens, including those of the template.
        on_long: treatment of longer prompts: "drop" drops them and `notes` reports how many,
            "refuse" stops the run.
        thinking: "on" or "off" if the model's template has this option; "default" for its default.
        opened: "<think>" if the prompts already end with that tag, so that completions do not
            contain it; checked against the template.

    Raises:
        ValueError: the limit is below 1, or there is no evaluation set.
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
            raise ValueError("task.test is empty: name at least one set to evaluate")

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The messages of the prompt."""
        return record.prompt

    def tools(self, record: ProblemRecord) -> Sequence[Any] | None:
        """The functions listed by the template; None if there are none."""
        return None

    def reference(self, record: ProblemRecord) -> Any:
        """The reference that is passed to the reward functions."""
        return record.answer

    def category(self, record: ProblemRecord) -> str:
        """The category under which an evaluation reports the problem.

        It is the problem's set, or the `source` that your own metadata gives.
        """
        return str(record.metadata["source"])

    def prompts(self, split: str) -> Sequence[Prompt]:
        """The problems of "train" or "test" that are not too long.

        Raises:
            UserError: a set has not been prepared, the tokenizer's files are missing, or `opened`
                does not match its template.
            ValueError: there is no such split.
        """
        return self._selection(split).kept

    def stream(self, split: str, seed: int) -> GrainStream:
        """The problems of a split, shuffled by Grain; raises the errors of `prompts`."""
        return GrainStream(self.prompts(split), seed)

    def notes(self, split: str) -> Sequence[str]:
        """Reports how many prompts of a split were too long."""
        return [f"{split}: {self._selection(split).in_words()}"]

    def records(self, name: str, split: str) -> Sequence[ProblemRecord]:
        """The records of a prepared set; a split in its name overrides the given one."""
        name, _, named_split = name.partition("/")
        return prepared.read(name, named_split or split, data_dir=self.data_dir)

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
