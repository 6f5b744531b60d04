"""Collectives of a compiled program, and its compiler's estimate of the time.

XLA's own cost analysis counts the body of a loop once, regardless of the number of iterations. Here
the optimised HLO text is traversed from its entry, and loop bodies are multiplied by that number.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2,
    "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of collective, summed over one execution of the program.

    Attributes:
        calls: number of calls.
        sent: bytes that each device sends in total, with ring algorithms.
    """

    calls: int = 0
    sent: int = 0

    def __add__(self, other: "Collective") -> "Collective":
        return Collective(self.calls + other.calls, self.sent + other.sent)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Cost of a compiled program, with loop bodies multiplied.

    Attributes:
        collectives: by kind, those that occur.
        cycles: the compiler's estimate, which excludes collectives; 0 if the compiler makes none.
    """

    collectives: Mapping[str, Collective]
    cycles: int

    @property
    def sent(self) -> int:
        """Bytes that each device sends."""
        return sum(each.sent for each in self.collectives.values())


def profile(text: str) -> Profile:
    """The profile of one device's program, from `compiled.as_text()`.

    A loop whose end depends on data counts with its maximum number of iterations, and a conditional
    with the branch that has the most cycles.
    """
    return _Traversal(*_parse(text)).total()


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str  # the operands as written, and the attributes after them

    def attribute(self, pattern: str) -> str | None:
        match = re.search(pattern, self.rest)
        return match.group(1) if match else None


_UNKNOWN_CYCLES = 2**63 - 1  # written by the compiler if it has no estimate

_Computation = Mapping[str, _Instruction]

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][a-z0-9\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


def _parse(text: str) -> tuple[Mapping[str, _Computation], str]:
    """All computations by name, and the name of the entry."""
    computations: dict[str, dict[str, _Instruction]] = {}
    entry, current = "", {}
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            current = computations[head.group(2)] = {}
            entry = head.group(2) if head.group(1) else entry
        elif name := _NAME.match(line):
            instruction = _instruction(name.group(1), line[name.end() :])
            if instruction is not None:
                current[instruction.name] = instruction
    return computations, entry


def _instruction(name: str, text: str) -> _Instruction | None:
    end = _closing(text, 0) if text.startswith("(") else text.find(" ")
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        return None
    last = _closing(text, opcode.end() - 1)
    operands = tuple(re.findall(r"%([\w.\-]+)", text[opcode.end() : last]))
    return _Instruction(name, text[:end], opcode.group(1), operands, text[opcode.end() :])


def _closing(text: str, start: int) -> int:
    """Index after the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return len(text)


class _Traversal:
    """Sums the cost of a program from its entry."""

    def __init__(self, computations: Mapping[str, _Computation], entry: str):
        self._computations = computations
        self._entry = entry
        self._profiles: dict[str, Profile] = {}

    def total(self) -> Profile:
        return self._profile(self._entry)

    def _profile(self, name: str) -> Profile:
        if name not in self._profiles:
            parts = [
                part
                for instruction in self._computations[name].values()
                for part in self._parts(name, instruction)
            ]
            self._profiles[name] = _sum(parts)
        return self._profiles[name]

    def _parts(self, computation: str, instruction: _Instruction) -> Iterator[Profile]:
        """Costs of one instruction and of the computations that it calls."""
        cycles = _cycles(instruction)
        called = [name for name in _called(instruction) if name in self._computations]
        if instruction.opcode == "while":
            iterations = self._iterations(computation, instruction)
            yield from (_times(self._profile(name), iterations) for name in called)
        elif instruction.opcode == "conditional":
            yield max((self._profile(name) for name in called), key=lambda p: (p.cycles, p.sent))
        else:
            yield Profile({}, cycles)
            # The cycles of a fusion include those of its computation, but not the collectives.
            for name in called:
                inner = self._profile(name)
                inner = dataclasses.replace(inner, cycles=0) if cycles else inner
                # libtpu expresses a reduce-scatter as a sliced all-reduce in such a computation.
                yield _scattered(inner) if name.startswith("all-reduce-scatter") else inner
            yield from _collective(instruction)

    def _iterations(self, computation: str, loop: _Instruction) -> int:
        """Maximum number of iterations: the end of the loop's counter minus its start."""
        trip_count = loop.attribute(r'known_trip_count":\{"n":"(\d+)"')
        if trip_count is not None:
            return int(trip_count)
        condition = self._computations[loop.attribute(r"condition=%?([\w.\-]+)") or ""]
        bound = _bound(condition)
        if bound is None:
            return 1
        index, end = bound
        return max(end - self._start(computation, loop, index), 1)

    def _start(self, computation: str, loop: _Instruction, index: int) -> int:
        """The counter before the first iteration; 0 if it cannot be determined."""
        here = self._computations[computation]
        source = here.get(loop.operands[0])
        if source is not None and source.opcode == "tuple":
            source = _through_copies(here, here.get(source.operands[index]))
            if source is not None and source.opcode == "get-tuple-element":
                before = here.get(source.operands[0])
                if before is not None and before.opcode == "while":
                    name = before.attribute(r"condition=%?([\w.\-]+)") or ""
                    bound = _bound(self._computations[name])
                    return bound[1] if bound else 0
        return _constant(source) or 0


def _cycles(instruction: _Instruction) -> int:
    """The compiler's estimate for one execution of the instruction; 0 if there is none."""
    estimated = int(instruction.attribute(r'estimated_cycles":"(\d+)"') or 0)
    return 0 if estimated == _UNKNOWN_CYCLES else estimated


def _called(instruction: _Instruction) -> list[str]:
    """Computations that run with the instruction; the condition of a loop is neglected."""
    names = re.findall(
        r"(?:calls|body|to_apply|called_computation|true_computation|false_computation)=%?([\w.\-]+)",
        instruction.rest,
    )
    branches = instruction.attribute(r"branch_computations=\{([^}]*)\}")
    return names + re.findall(r"%?([\w.\-]+)", branches or "")


def _bound(condition: _Computation) -> tuple[int, int] | None:
    """Index of the counter in the loop's state, and the constant it is compared with."""
    for instruction in condition.values():
        if instruction.opcode == "compare" and "direction=LT" in instruction.rest:
            counter, limit = (condition.get(name) for name in instruction.operands)
            end, index = _constant(limit), counter and counter.attribute(r"index=(\d+)")
            if end is not None and index:
                return int(index), end
    return None


def _through_copies(here: _Computation, source: _Instruction | None) -> _Instruction | None:
    while source is not None and source.opcode in ("copy", "bitcast"):
        source = here.get(source.operands[0])
    return source


def _constant(instruction: _Instruction | None) -> int | None:
    if instruction is None or instruction.opcode != "constant":
        return None
    match = re.match(r"(-?\d+)\)", instruction.rest)
    return int(match.group(1)) if match else None


def _collective(instruction: _Instruction) -> Iterator[Profile]:
    """The cost of a collective; nothing for other instructions."""
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
        return
    size, members = _bytes(instruction.shape), _members(instruction)
    if instruction.opcode.endswith("-start") and kind in ("all-gather", "collective-permute"):
        # Its shape lists operand and result; the result of a gather is the larger one.
        size = max((_bytes(part) for part in _arrays(instruction.shape)), default=0)
    share = (members - 1) / members
    factor = {
        "all-gather": share,
        "all-reduce": 2 * share,
        "reduce-scatter": members - 1,
        "all-to-all": share,
        "collective-permute": 1.0,
    }[kind]
    yield Profile({kind: Collective(1, round(size * factor))}, 0)


def _scattered(inner: Profile) -> Profile:
    """All-reduces of which each device keeps only its share: half of the communication."""
    whole = inner.collectives["all-reduce"]
    return Profile({"reduce-scatter": Collective(whole.calls, whole.sent // 2)}, inner.cycles)


def _members(instruction: _Instruction) -> int:
    """Number of devices in one group of the collective."""
    if listed := instruction.attribute(r"replica_groups=\{\{([\d,]*)\}"):
        return listed.count(",") + 1
    if iota := instruction.attribute(r"replica_groups=\[\d+,(\d+)\]"):
        return int(iota)
    axes = re.search(r"replica_groups=(?:@?\w*)?mesh\[([^\]]*)\]\s*\{([^}]*)\}", instruction.rest)
    if axes:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", axes.group(1)))
        used = re.findall(r"'([^']+)'", axes.group(2))
        return math.prod(int(sizes[axis]) for axis in used)
    return 2  # a permutation lists pairs


def _arrays(shape: str) -> list[str]:
    return [match.group(0) for match in _ARRAY.finditer(shape)]


def _bytes(shape: str) -> int:
    """Bytes of all arrays of a shape."""
    total = 0
    for match in _ARRAY.finditer(shape):
        sizes = [int(size) for size in match.group(2).split(",") if size]
        total += _BYTES.get(match.group(1), 0) * math.prod(sizes)
    return total


def _times(profile: Profile, count: int) -> Profile:
    collectives = {
        kind: Collective(each.calls * count, each.sent * count)
        for kind, each in profile.collectives.items()
    }
    return Profile(collectives, profile.cycles * count)


def _sum(parts: Sequence[Profile]) -> Profile:
    collectives: dict[str, Collective] = {}
    for part in parts:
        for kind, each in part.collectives.items():
            collectives[kind] = collectives.get(kind, Collective()) + each
    return Profile(collectives, sum(part.cycles for part in parts))
