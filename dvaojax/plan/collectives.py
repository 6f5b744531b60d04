"""Collectives of a compiled program: bytes that each device sends, and where to."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from dvaojax.plan.hlo import HloInstruction, arrays, size_of

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of collective, summed over one execution of the program.

    Attributes:
        calls: number of calls.
        sent: bytes that each device sends in total, with ring algorithms.
        seconds: that the links need for them at their peak rate.
    """

    calls: int = 0
    sent: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Collective") -> "Collective":
        return Collective(
            self.calls + other.calls, self.sent + other.sent, self.seconds + other.seconds
        )

    def times(self, count: int) -> "Collective":
        """The same collective called several times."""
        return Collective(self.calls * count, self.sent * count, self.seconds * count)


@dataclasses.dataclass(frozen=True)
class Links:
    """The connections between devices.

    Attributes:
        bandwidth: bytes per second that a device sends to others of its host, or of its slice.
        hosts_bandwidth: bytes per second that a device can send to other hosts, or to other slices
            of TPUs; 0 if there is one.
        devices_per_host: consecutive devices that are on one host.
    """

    bandwidth: float
    hosts_bandwidth: float = 0.0
    devices_per_host: int = 2**30

    def seconds(self, sent: float, members: Sequence[int]) -> float:
        """Least seconds in which every member of a group sends a number of bytes.

        A ring leaves each host once. All members of a host share the load with rings in different
        orders, each through its own network card.
        """
        hosts = {device // self.devices_per_host for device in members}
        if len(hosts) == 1:
            return sent / self.bandwidth
        here = len(members) / len(hosts)
        return sent / min(self.bandwidth, here * self.hosts_bandwidth)


BETWEEN_SLICES = " between slices"  # follows the kind of a collective


def between_slices(instruction: HloInstruction) -> tuple[str, Sequence[int]] | None:
    """The kind of a collective between slices of TPUs, and the slices; None for others.

    libtpu hands these to the host, which sends the array and receives the result.
    """
    kind = instruction.attribute(r'_xla_megascale_transfer_type="(\w+)"')
    if kind is None or instruction.opcode != "send":
        return None
    listed = instruction.attribute(r'_xla_megascale_target="\{([\d,:]+)\}') or "0,1"
    bounds = [[int(end) for end in part.split(":")] for part in listed.split(",")]
    slices = [slice for ends in bounds for slice in range(ends[0], ends[-1] + 1)]
    return {"ONE_TO_ONE": "collective-permute"}.get(kind, kind.lower().replace("_", "-")), slices


def kind_of(instruction: HloInstruction) -> str | None:
    """The kind of a collective; None for other instructions, also for the end of a collective."""
    kind = instruction.opcode.removesuffix("-start")
    return kind if kind in COLLECTIVES else None


def collective(instruction: HloInstruction, links: Links) -> Mapping[str, Collective]:
    """The cost of a collective by its kind; nothing for other instructions."""
    kind = kind_of(instruction)
    if kind is None:
        return _cost_between_slices(instruction, links)
    size, group = size_of(instruction.shape), members(instruction)
    if instruction.opcode.endswith("-start"):  # its shape may also list the operands
        count = len(group)
        size = {
            "all-gather": size * count // (count + 1),
            "reduce-scatter": size // (count + 1),
            "all-to-all": size // 2,
            "collective-permute": max(map(size_of, arrays(instruction.shape)), default=0),
        }.get(kind, size)
    sent = round(size * _factors(len(group))[kind])
    return {kind: Collective(1, sent, links.seconds(sent, group))}


def _factors(count: int) -> dict[str, float]:
    """Bytes that each of a number of members sends in a ring, in units of the result."""
    share = (count - 1) / count
    return {
        "all-gather": share,
        "all-reduce": 2 * share,
        "reduce-scatter": count - 1,
        "all-to-all": share,
        "collective-permute": 1.0,
    }


def _cost_between_slices(instruction: HloInstruction, links: Links) -> Mapping[str, Collective]:
    """The cost of a collective between slices of TPUs; nothing for other instructions."""
    transfer = between_slices(instruction)
    if transfer is None:
        return {}
    kind, slices = transfer
    operand = size_of(next(iter(arrays(instruction.shape)), ""))
    count = len(slices)
    factor = {"all-gather": count - 1, "reduce-scatter": (count - 1) / count}.get(
        kind,
        _factors(count).get(kind, 1.0),  # these are in units of the operand
    )
    sent = round(operand * factor)
    return {kind + BETWEEN_SLICES: Collective(1, sent, sent / links.hosts_bandwidth)}


def scattered(inner: Mapping[str, Collective]) -> Mapping[str, Collective]:
    """All-reduces of which each device keeps only its share: half of the communication."""
    whole = inner["all-reduce"]
    return {"reduce-scatter": Collective(whole.calls, whole.sent // 2, whole.seconds / 2)}


def members(instruction: HloInstruction) -> Sequence[int]:
    """Devices in the first group of a collective; two of a permutation, which lists pairs."""
    if listed := instruction.attribute(r"replica_groups=\{\{([\d,]*)\}"):
        return [int(device) for device in listed.split(",")]
    iota = re.search(
        r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", instruction.rest
    )
    if iota:
        sizes = _numbers(iota.group(3))
        order = _numbers(iota.group(4)) if iota.group(4) else range(len(sizes))
        devices = np.arange(math.prod(sizes)).reshape(sizes).transpose(order)
        return devices.reshape(int(iota.group(1)), -1)[0].tolist()
    axes = re.search(
        r"replica_groups=(?:@?\w*)?mesh\[([^\]]*)\](?:, device_ids=\([^{]*\))?\s*\{([^}]*)\}",
        instruction.rest,
    )
    if axes:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes.group(1))}
        used = re.findall(r"'([^']+)'", axes.group(2))
        devices = np.arange(math.prod(sizes.values()))
        if listed := re.search(r"device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)", instruction.rest):
            shape = _numbers(listed.group(1))
            order = _numbers(listed.group(2)) if listed.group(2) else range(len(shape))
            devices = devices.reshape(shape).transpose(order)
        devices = devices.reshape(list(sizes.values()))
        first = tuple(slice(None) if name in used else 0 for name in sizes)
        return devices[first].ravel().tolist()
    pair = instruction.attribute(r"source_target_pairs=\{\{(\d+,\d+)\}")
    return _numbers(pair) if pair else [0, 1]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
