"""Cost of a compiled program: time, collectives, decode loops and its most expensive operations."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dvaojax.plan import hlo
from dvaojax.plan.collectives import (
    COLLECTIVES,
    Collective,
    between_slices,
    collective,
    scattered,
)
from dvaojax.plan.costs import CostModel, Filled
from dvaojax.plan.counters import CallFrame, Turns
from dvaojax.plan.hlo import HloInstruction, HloModule
from dvaojax.plan.sources import Sources, operation


class Operation(NamedTuple):
    """Instructions of one kind from one line of source code.

    Attributes:
        seconds: in one execution of the program.
        calls: in one execution of the program.
        opcode: such as "fusion", or the target of a custom call.
        shape: of the result, without layouts.
        source: the line of source code; may be empty.
        name: of the JAX operation; may be empty.
    """

    seconds: float
    calls: int
    opcode: str
    shape: str
    source: str
    name: str


class DecodeLoop(NamedTuple):
    """A loop whose end depends on data, such as one that draws a token in each iteration.

    Attributes:
        turns: iterations, at most.
        kernels: launches of one iteration.
        seconds: of one iteration.
    """

    turns: int
    kernels: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """Cost of one execution of a compiled program on one device.

    Attributes:
        seconds: estimated, without collectives.
        kernels: launches.
        collectives: by kind, those that occur.
        decode_loops: those that run, in order.
        operations: all, the most expensive first.
        recomputed: instructions that XLA repeats by itself to save memory.
        recomputed_seconds: the time these take.
    """

    seconds: float
    kernels: int
    collectives: Mapping[str, Collective]
    decode_loops: tuple[DecodeLoop, ...]
    operations: tuple[Operation, ...]
    recomputed: int
    recomputed_seconds: float

    @property
    def sent(self) -> int:
        """Bytes that each device sends."""
        return sum(each.sent for each in self.collectives.values())

    @property
    def link_seconds(self) -> float:
        """Least seconds for them."""
        return sum(each.seconds for each in self.collectives.values())


def profile(text: str, model: CostModel) -> Profile:
    """The profile of one device's program.

    A loop whose end depends on data counts with its maximum number of iterations, and a conditional
    with the branch that takes longest.

    Args:
        text: from `compiled.as_text()`.
        model: cost of instructions on the device.
    """
    module = hlo.parse(text)
    executed = list(_Traversal(module, model).run())
    collectives: dict[str, Collective] = {}
    for each in executed:
        for kind, one in each.collectives.items():
            collectives[kind] = collectives.get(kind, Collective()) + one.times(each.times)
    recomputed = [each for each in executed if ".remat" in each.instruction.name and each.seconds]
    return Profile(
        seconds=sum(each.seconds * each.times for each in executed),
        kernels=sum(each.kernels * each.times for each in executed),
        collectives=collectives,
        decode_loops=_decode_loops(executed),
        operations=_operations(module, executed),
        recomputed=len(recomputed),
        recomputed_seconds=sum(each.seconds * each.times for each in recomputed),
    )


class _Executed(NamedTuple):
    """An instruction that runs a number of times, and the cost of one execution."""

    instruction: HloInstruction
    times: int
    seconds: float
    kernels: int
    collectives: Mapping[str, Collective]
    loop: "_EnclosingLoop | None"


class _EnclosingLoop(NamedTuple):
    """The innermost loop around an instruction whose end depends on data."""

    frame: CallFrame  # of the computation with the loop
    instruction: HloInstruction
    turns: Turns
    times: int  # all of its iterations
    outer: "_EnclosingLoop | None"

    def filled(self, name: str) -> float:
        """Mean share of a cache in the loop's state that is filled, up to the loop's counter."""
        if not self.frame.changes(self.instruction, name):
            return 1.0
        end = self.turns.start + self.turns.most
        return (self.turns.start + end + 1) / (2 * end)


class _Traversal:
    """Goes through a program from its entry."""

    def __init__(self, module: HloModule, model: CostModel):
        self._module, self._model = module, model
        self._sending: dict[str, bool] = {}

    def run(self) -> Iterator[_Executed]:
        return self._computation(CallFrame(self._module, self._module.entry), 1, None)

    def _computation(
        self, frame: CallFrame, times: int, loop: _EnclosingLoop | None
    ) -> Iterator[_Executed]:
        for instruction in frame.computation.values():
            yield from self._instruction(frame, instruction, times, loop)

    def _instruction(
        self, frame: CallFrame, instruction: HloInstruction, times: int, loop: _EnclosingLoop | None
    ) -> Iterator[_Executed]:
        if instruction.opcode == "while":
            turns = frame.turns(instruction)
            if turns.most:
                inner = _EnclosingLoop(frame, instruction, turns, times * turns.most, loop)
                yield from self._computation(
                    frame.body(instruction),
                    times * turns.most,
                    inner if turns.depends_on_data else loop,
                )
        elif instruction.opcode == "conditional":
            branches = (
                list(self._computation(branch, times, loop))
                for branch in frame.branches(instruction)
            )
            yield from max(branches, key=_cost, default=[])
        elif instruction.opcode == "call":
            for name in self._module.called(instruction):
                yield from self._computation(frame.call(instruction, name), times, loop)
        else:
            yield from self._single(frame, instruction, times, loop)

    def _single(
        self, frame: CallFrame, instruction: HloInstruction, times: int, loop: _EnclosingLoop | None
    ) -> Iterator[_Executed]:
        is_directly_in_loop = (
            loop is not None and frame.name == loop.frame.body(loop.instruction).name
        )
        filled: Filled = loop.filled if loop is not None and is_directly_in_loop else _whole
        cost = self._model.cost(self._module, frame.computation, instruction, filled)
        sent = collective(instruction, self._model.links)
        if cost.kernels or cost.seconds or sent:
            yield _Executed(instruction, times, cost.seconds, cost.kernels, sent, loop)
        # The cost of a fusion includes that of its computation, but not the collectives.
        for name in self._module.called(instruction):
            if self._sends(name):
                for each in self._computation(frame.call(instruction, name), times, loop):
                    inner = each.collectives
                    # libtpu expresses a reduce-scatter as a sliced all-reduce.
                    if inner and name.startswith("all-reduce-scatter"):
                        inner = scattered(inner)
                    yield each._replace(seconds=0.0, kernels=0, collectives=inner)

    def _sends(self, name: str) -> bool:
        """Whether a computation has a collective."""
        if name not in self._sending:
            self._sending[name] = any(
                each.opcode.removesuffix("-start") in COLLECTIVES
                or between_slices(each)
                or any(map(self._sends, self._module.called(each)))
                for each in self._module.computations[name].values()
            )
        return self._sending[name]


def _whole(name: str) -> float:
    return 1.0


def _cost(executed: list[_Executed]) -> tuple[float, float]:
    seconds = sum(each.seconds * each.times for each in executed)
    sent = (one.seconds * each.times for each in executed for one in each.collectives.values())
    return seconds, sum(sent)


def _decode_loops(executed: list[_Executed]) -> tuple[DecodeLoop, ...]:
    """Those without another one inside."""
    parts: dict[int, list[_Executed]] = defaultdict(list)
    around = {id(each.loop.outer) for each in executed if each.loop is not None}
    for each in executed:
        if each.loop is not None and id(each.loop) not in around:
            parts[id(each.loop)].append(each)
    return tuple(map(_decode_loop, parts.values()))


def _decode_loop(inside: list[_Executed]) -> DecodeLoop:
    turns = next(each.loop.times for each in inside if each.loop is not None)
    return DecodeLoop(
        turns=turns,
        kernels=round(sum(each.kernels * each.times for each in inside) / turns),
        seconds=sum(each.seconds * each.times for each in inside) / turns,
    )


def _operations(module: HloModule, executed: list[_Executed]) -> tuple[Operation, ...]:
    sources = Sources(module)
    seconds: dict[tuple[str, str, str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for each in executed:
        if each.seconds:
            key = _describe(each.instruction, sources)
            seconds[key] += each.seconds * each.times
            calls[key] += each.times
    ordered = sorted(seconds, key=seconds.__getitem__, reverse=True)
    return tuple(Operation(seconds[key], calls[key], *key) for key in ordered)


def _describe(instruction: HloInstruction, sources: Sources) -> tuple[str, str, str, str]:
    opcode = instruction.attribute(r'custom_call_target="([^"]*)"') or instruction.opcode
    arrays = hlo.arrays(instruction.shape)
    shape = (
        arrays[0] + (f" and {len(arrays) - 1} more" if len(arrays) > 1 else "") if arrays else ""
    )
    return opcode, shape, sources.line(instruction), operation(instruction)
