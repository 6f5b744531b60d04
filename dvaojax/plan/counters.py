"""How often the loops of a compiled program run, from their counters.

A loop of the sampler ends with its last column, or earlier if all completions have ended; the
longest case is assumed. Its counter is an integer in the loop's state that is compared with a
constant. Where several loops advance one counter, in sequence or nested, the second begins where
the first ended. So the few scalars that counters depend on are evaluated: as numbers where they are
known, otherwise as an element of the surrounding loop's state plus a number.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dvaojax.plan.hlo import Computation, HloInstruction, HloModule, root

Path = tuple[int, ...]  # indices into nested tuples


class Element(NamedTuple):
    """An unknown integer: an element of a loop's state before an iteration, plus a number."""

    path: Path
    plus: int = 0


Value = int | Element | None  # None: unknown, or not a scalar
Argument = Callable[[Path], Value]

_SAME = ("copy", "bitcast", "copy-start", "copy-done", "convert", "optimization-barrier")


def unknown(path: Path) -> Value:
    """An argument of which nothing is known."""
    return None


class Turns(NamedTuple):
    """Iterations of a loop.

    Attributes:
        most: the maximum number; 1 if nothing is known.
        start: the counter before the first iteration; 0 if there is none.
        depends_on_data: whether the loop may end earlier.
    """

    most: int
    start: int
    depends_on_data: bool


@dataclasses.dataclass
class CallFrame:
    """One execution of a computation, with what is known about its arguments.

    Attributes:
        module: the program.
        name: of the computation.
        arguments: one for each parameter; each gives the value at a path into it.
    """

    module: HloModule
    name: str
    arguments: tuple[Argument, ...] = ()

    def __post_init__(self):
        self._values: dict[tuple[str, Path], Value] = {}
        self._loops: dict[str, _Loop] = {}

    @property
    def computation(self) -> Computation:
        """Its instructions."""
        return self.module.computations[self.name]

    def result(self, path: Path = ()) -> Value:
        """The value at a path into the computation's result."""
        return self.value(root(self.computation).name, path)

    def value(self, name: str, path: Path = ()) -> Value:
        """The value at a path into an instruction's result."""
        if (name, path) not in self._values:
            self._values[name, path] = None  # for an instruction that depends on itself
            instruction = self.computation.get(name)
            if instruction is not None:
                self._values[name, path] = self._evaluate(instruction, path)
        return self._values[name, path]

    def turns(self, instruction: HloInstruction) -> Turns:
        """Iterations of a loop of this computation."""
        trip_count = instruction.attribute(r'known_trip_count":\{"n":"(\d+)"')
        loop = self._loop(instruction)
        if trip_count is not None:
            return Turns(int(trip_count), loop.start, depends_on_data=False)
        return Turns(loop.count, loop.start, depends_on_data=loop.depends_on_data)

    def body(self, instruction: HloInstruction) -> "CallFrame":
        """The first iteration of a loop of this computation."""
        return self._loop(instruction).first

    def changes(self, instruction: HloInstruction, name: str) -> bool:
        """Whether a result in the body of a loop is more than a part of the state that stays."""
        return self._loop(instruction).changes(name)

    def branches(self, instruction: HloInstruction) -> list["CallFrame"]:
        """The branches of a conditional of this computation."""
        called = self.module.called(instruction)
        return [
            CallFrame(self.module, name, (self._operand(instruction, 1 + index),))
            for index, name in enumerate(called)
        ]

    def call(self, instruction: HloInstruction, name: str) -> "CallFrame":
        """A computation that is called with the operands of an instruction."""
        arguments = (self._operand(instruction, i) for i in range(len(instruction.operands)))
        return CallFrame(self.module, name, tuple(arguments))

    def _operand(self, instruction: HloInstruction, index: int) -> Argument:
        if index >= len(instruction.operands):
            return unknown
        return lambda path: self.value(instruction.operands[index], path)

    def _loop(self, instruction: HloInstruction) -> "_Loop":
        if instruction.name not in self._loops:
            self._loops[instruction.name] = _Loop(
                self.module, instruction, self._operand(instruction, 0)
            )
        return self._loops[instruction.name]

    def _evaluate(self, instruction: HloInstruction, path: Path) -> Value:
        opcode, operands = instruction.opcode, instruction.operands
        if opcode == "parameter":
            index = int(instruction.rest.partition(")")[0])
            return self.arguments[index](path) if index < len(self.arguments) else None
        if opcode == "constant":
            return _constant(instruction)
        if opcode == "get-tuple-element":
            index = int(instruction.attribute(r"index=(\d+)") or 0)
            return self.value(operands[0], (index, *path))
        if opcode == "tuple":
            return self.value(operands[path[0]], path[1:]) if path else None
        if opcode in _SAME:
            return self.value(operands[0], path)
        if opcode == "while":
            return self._loop(instruction).after(path)
        if opcode == "conditional":
            results = {branch.result(path) for branch in self.branches(instruction)}
            return results.pop() if len(results) == 1 else None
        if opcode in ("fusion", "call"):
            called = self.module.called(instruction)
            return self.call(instruction, called[0]).result(path) if called else None
        if opcode in ("add", "subtract"):
            return _sum(
                *(self.value(name) for name in operands), sign=-1 if opcode[0] == "s" else 1
            )
        return None


class _Loop:
    """A loop with what is known about the state that it begins with."""

    def __init__(self, module: HloModule, instruction: HloInstruction, initial: Argument):
        self._module, self._initial = module, initial
        self._body = instruction.attribute(r"body=%?([\w.\-]+)") or ""
        self._any = CallFrame(module, self._body, (Element,))
        self._is_counted = False
        self._limit = self._find_limit(instruction)

    @property
    def start(self) -> int:
        """The counter before the first iteration; 0 if it is unknown."""
        start = self._initial(self._limit[0]) if self._limit else None
        return start if isinstance(start, int) else 0

    @property
    def count(self) -> int:
        """The maximum number of iterations; 1 without a counter."""
        if self._limit is None:
            return 1
        path, end = self._limit
        left = max(end - self.start, 0)
        after = self._any.result(path)
        if isinstance(after, Element):
            return -(-left // after.plus)
        return min(left, 1)  # an iteration advances the counter to the end

    @property
    def depends_on_data(self) -> bool:
        """Whether the condition is more than a comparison of the counter."""
        return self._limit is None or not self._is_counted

    @property
    def first(self) -> CallFrame:
        """The first iteration."""

        def argument(path: Path) -> Value:
            is_first = self.count == 1 or self._is_constant(path)
            return self._initial(path) if is_first else None

        return CallFrame(self._module, self._body, (argument,))

    def after(self, path: Path) -> Value:
        """The state after the loop, at a path into it."""
        if self._is_constant(path):
            return self._initial(path)
        if self._limit is None or self._limit[0] != path:
            return None
        start = self._initial(path)
        return max(start, self._limit[1]) if isinstance(start, int) else self._limit[1]

    def changes(self, name: str) -> bool:
        """Whether a result of the body is more than an element of the state that stays."""
        value = self._any.value(name)
        return not (isinstance(value, Element) and self._is_constant(value.path))

    def _is_constant(self, path: Path) -> bool:
        return self._any.result(path) == Element(path)

    def _find_limit(self, instruction: HloInstruction) -> tuple[Path, int] | None:
        """Where the counter is in the state, and the number it stays below."""
        name = instruction.attribute(r"condition=%?([\w.\-]+)") or ""
        if name not in self._module.computations or self._body not in self._module.computations:
            return None

        def argument(path: Path) -> Value:
            number = self._initial(path) if self._is_constant(path) else None
            return number if isinstance(number, int) else Element(path)

        condition = CallFrame(self._module, name, (argument,))
        last = root(condition.computation)
        self._is_counted = last.opcode != "and" and not any(
            each.opcode == "and"
            for called in self._module.called(last)
            for each in self._module.computations[called].values()
        )
        for path, end in _limits(condition, last):
            after = self._any.result(path)
            if isinstance(after, int) or (
                isinstance(after, Element) and after.path == path and after.plus > 0
            ):
                return path, end
        return None


def _limits(frame: CallFrame, instruction: HloInstruction) -> Iterator[tuple[Path, int]]:
    """Elements of the state that a condition requires to be below a number."""
    operands = [frame.computation[n] for n in instruction.operands if n in frame.computation]
    if instruction.opcode in ("and", *_SAME):
        for operand in operands:
            yield from _limits(frame, operand)
    elif instruction.opcode in ("fusion", "call"):
        for name in frame.module.called(instruction)[:1]:
            inner = frame.call(instruction, name)
            yield from _limits(inner, root(inner.computation))
    elif instruction.opcode == "compare":
        left, right = (frame.value(name) for name in instruction.operands)
        direction = instruction.attribute(r"direction=(\w+)") or ""
        if direction in ("GT", "GE"):
            left, right, direction = right, left, {"GT": "LT", "GE": "LE"}[direction]
        if isinstance(left, Element) and isinstance(right, int) and direction in ("LT", "LE"):
            yield left.path, right - left.plus + (direction == "LE")


def _sum(left: Value, right: Value, *, sign: int) -> Value:
    if isinstance(right, int) and isinstance(left, int):
        return left + sign * right
    if isinstance(right, int) and isinstance(left, Element):
        return Element(left.path, left.plus + sign * right)
    if isinstance(left, int) and isinstance(right, Element) and sign == 1:
        return Element(right.path, right.plus + left)
    return None


def _constant(instruction: HloInstruction) -> int | None:
    match = re.match(r"(-?\d+)\)", instruction.rest)
    return int(match.group(1)) if match else None
