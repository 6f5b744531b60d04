"""A compiled program's instructions, read from its optimised HLO text.

XLA's own cost analysis counts the body of a loop once, regardless of the number of iterations. So
the text is parsed here, traversed from its entry (`profile.py`), and loops are counted
(`counters.py`).
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "bf16": 2, "f16": 2, "s16": 2,
    "u16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8, "c64": 8,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class HloInstruction:
    """One instruction.

    Attributes:
        name: unique in its computation.
        shape: of its result, as written.
        opcode: such as "fusion".
        operands: names of the instructions whose results it takes.
        rest: the operands as written, and the attributes after them.
        is_root: whether its result is that of its computation.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool = False

    def attribute(self, pattern: str) -> str | None:
        """The first group of a pattern that is searched in operands and attributes."""
        match = re.search(pattern, self.rest)
        return match.group(1) if match else None

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that run with the instruction, a conditional's branches in their order."""
        names = [] if "=" not in self.rest else _CALLED.findall(self.rest)
        branches = self.attribute(r"branch_computations=\{([^}]*)\}")
        names += re.findall(r"%?([\w.\-]+)", branches or "")
        return tuple(names)


Computation = Mapping[str, HloInstruction]


@dataclasses.dataclass(frozen=True)
class HloModule:
    """A parsed program.

    Attributes:
        computations: by name; each lists its instructions by name, in order of execution.
        entry: name of the computation that the program begins with.
        header: the lines before the first computation, which may list source files.
    """

    computations: Mapping[str, Computation]
    entry: str
    header: str

    def called(self, instruction: HloInstruction) -> list[str]:
        """Computations that run with the instruction and are part of the text."""
        return [name for name in instruction.called if name in self.computations]


_CALLED = re.compile(
    r"\b(?:calls|body|to_apply|called_computation|true_computation|false_computation)=%?([\w.\-]+)"
)
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][a-z0-9\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")


def parse(text: str) -> HloModule:
    """The instructions of a program, from `compiled.as_text()`."""
    computations: dict[str, dict[str, HloInstruction]] = {}
    entry, current = "", {}
    header: list[str] = []
    for line in _joined(text):
        head = _HEAD.match(line)
        if head:
            current = computations[head.group(2)] = {}
            entry = head.group(2) if head.group(1) else entry
        elif name := _NAME.match(line):
            instruction = _instruction(name.group(2), line[name.end() :], bool(name.group(1)))
            if instruction is not None:
                current[instruction.name] = instruction
        elif not computations:
            header.append(line)
    return HloModule(computations, entry, "\n".join(header))


def _joined(text: str) -> Iterator[str]:
    """The lines; an attribute that is written over several of them is joined."""
    parts: list[str] = []
    for line in text.splitlines():
        if not line.startswith(('"', "}}")):
            yield "".join(parts)
            parts = []
        parts.append(line)
    yield "".join(parts)


def _instruction(name: str, text: str, is_root: bool) -> HloInstruction | None:
    end = _closing(text, 0) if text.startswith("(") else text.find(" ")
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        return None
    last = _closing(text, opcode.end() - 1)
    operands = tuple(re.findall(r"%([\w.\-]+)", text[opcode.end() : last]))
    return HloInstruction(
        name, text[:end], opcode.group(1), operands, text[opcode.end() :], is_root
    )


def _closing(text: str, start: int) -> int:
    """Index after the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return len(text)


def root(computation: Computation) -> HloInstruction:
    """The instruction whose result is that of the computation."""
    return next((each for each in computation.values() if each.is_root), _last(computation))


def _last(computation: Computation) -> HloInstruction:
    return list(computation.values())[-1]


def arrays(shape: str) -> list[str]:
    """The arrays of a shape, as written but without their layouts."""
    return [match.group(0) for match in _ARRAY.finditer(shape)]


def dimensions(shape: str) -> Sequence[int]:
    """The sizes of the first array of a shape; none for a scalar."""
    match = _ARRAY.search(shape)
    return [int(size) for size in match.group(2).split(",") if size] if match else []


def size_of(shape: str) -> int:
    """Bytes of all arrays of a shape."""
    return sum(
        _BYTES.get(match.group(1), 0) * math.prod(int(n) for n in match.group(2).split(",") if n)
        for match in _ARRAY.finditer(shape)
    )
