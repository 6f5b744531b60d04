"""The tables of `accelerator.py`."""

from collections.abc import Iterable, Sequence
from typing import Any

from ceilings import Ceilings

from dvaojax.devices import peak_of

GIB = 2**30
Rows = Sequence[dict[str, Any]]


def limits_of(rows: Rows) -> tuple[Ceilings | None, str]:
    """Limits of the device, and whether they are from its data sheet or measured in the run."""
    measured = next((row for row in rows if row["measured"] == "limits"), None)
    if measured is None:
        return None, "unknown"
    peak = peak_of(measured["device"])
    if peak is not None:
        return Ceilings(*peak), "data sheet"
    return Ceilings(measured["flops_per_second"], measured["bytes_per_second"]), "measured here"


def as_markdown(report: dict[str, Any]) -> str:
    """All tables, below a description of the device and the versions."""
    rows = report["rows"]
    device = next((row["device"] for row in rows if row["measured"] == "limits"), "unknown device")
    limits, origin = limits_of(rows)
    lines = [
        f"{device}, {report['date']}, commit {report['commit']}, "
        + ", ".join(f"{name} {number}" for name, number in report["versions"].items()),
        *_limits(rows, limits, origin),
        "",
        *_models(rows, limits),
        *_rollouts(rows, limits),
        *_memory(rows),
        *_attention(rows),
        *_kernels(rows),
        *_peers(rows),
        *_aggregators(rows),
    ]
    complaints = [row for row in rows if row["measured"] == "complaint"]
    lines += [f"{row['part']} {row['model']}: {row['complaint']}" for row in complaints]
    return "\n".join(lines).rstrip("\n") + "\n"


def _limits(rows: Rows, limits: Ceilings | None, origin: str) -> list[str]:
    named = {f"Limits ({origin})": limits} if limits else {}
    for row in rows:
        if row["measured"] == "limits":
            best = Ceilings(row["flops_per_second"], row["bytes_per_second"])
            named["Best product and copy"] = best
    return [
        f"{name}: {each.flops_per_second / 1e12:,.2f} TFLOP/s, "
        f"{each.bytes_per_second / 1e9:,.0f} GB/s."
        for name, each in named.items()
    ]


def _models(rows: Rows, limits: Ceilings | None) -> list[str]:
    cells = []
    for name in dict.fromkeys(row["model"] for row in rows if row.get("part") == "model"):
        mine = {row["measured"]: row for row in rows if row.get("model") == name}
        update, step = mine.get("update"), mine.get("step")
        if update is None:
            continue
        share = update["flops"] / update["seconds"] / limits.flops_per_second if limits else None
        cells.append(
            [
                name,
                f"{update['seconds']:.3f}",
                _percent(share),
                f"{step['seconds']:.3f}" if step else "",
                f"{mine['compilation']['seconds']:.0f}" if "compilation" in mine else "",
            ]
        )
    return _table(["model", "update, s", "MFU", "step, s", "compiled in, s"], cells)


def _rollouts(rows: Rows, limits: Ceilings | None) -> list[str]:
    cells = [
        [
            row["model"],
            row["kind"],
            f"{row['seconds']:.3f}",
            _percent(row["bytes"] / row["seconds"] / limits.bytes_per_second if limits else None),
            f"{row['tokens'] / row['seconds']:,.0f}",
            " / ".join(f"{each:.3f}" for each in row["calls"]),
        ]
        for row in rows
        if row["measured"] == "rollout"
    ]
    header = [
        "model",
        "decoding attends by",
        "rollout, s",
        "bandwidth",
        "tokens/s",
        "every call, s",
    ]
    return _table(header, cells)


def _memory(rows: Rows) -> list[str]:
    peaks = {row["model"]: row["bytes"] for row in rows if row["measured"] == "peak"}
    cells = [
        [
            row["model"],
            *(
                f"{sum(row[phase].values()) / GIB:.2f} ({row[phase]['temporaries'] / GIB:.2f})"
                for phase in ("update", "rollout")
            ),
            f"{row['state'] / GIB:.2f}",
            f"{peaks[row['model']] / GIB:.2f}" if peaks.get(row["model"]) else "",
        ]
        for row in rows
        if row["measured"] == "memory"
    ]
    header = ["model", "update, GiB (temporaries)", "rollout, GiB (temporaries)", "state, GiB"]
    return _table([*header, "peak, GiB"], cells)


def _attention(rows: Rows) -> list[str]:
    training = [
        [
            " x ".join(map(str, row["shape"])),
            row["backend"],
            f"{1e3 * row['seconds']:.2f}" if "seconds" in row else row.get("complaint", ""),
            ", ".join(f"{name} {error:.1e}" for name, error in row.get("errors", {}).items()),
        ]
        for row in rows
        if row["measured"] == "attention"
    ]
    decoding = [
        [
            f"{row['filled']:.1%}",
            f"{1e6 * row['seconds']:.0f}",
            f"{row['bytes_per_second'] / 1e9:,.0f}",
        ]
        for row in rows
        if row["measured"] == "decode attention"
    ]
    shape = "training attention: rows x prompt x completions x length"
    return [
        *_table([shape, "backend", "forward and backward, ms", "error against float32"], training),
        *_table(["cuDNN in decoding: cache filled", "us", "GB/s of the filled part"], decoding),
    ]


def _kernels(rows: Rows) -> list[str]:
    lines = []
    for row in rows:
        if row["measured"] == "kernels":
            total = row["seconds"] or 1.0
            cells = [
                [f"`{name[:90]}`", f"{1e3 * seconds:.2f}", f"{seconds / total:.1%}"]
                for name, seconds in row["longest"]
            ]
            title = f"{row['model']}, {row['of']}: {row['launches']:,} kernels"
            lines += _table([title, "ms", "share"], cells)
    return lines


def _peers(rows: Rows) -> list[str]:
    cells = [
        [row["system"], f"{row['seconds']:.3f}" if row.get("seconds") else row["complaint"]]
        for row in rows
        if row["measured"] == "peers"
    ]
    return _table(["system, on a smaller shape", "step, s"], cells)


def _aggregators(rows: Rows) -> list[str]:
    cells = [
        [name, f"{microseconds:.0f}"]
        for row in rows
        if row["measured"] == "aggregators"
        for name, microseconds in row["microseconds"].items()
    ]
    return _table(["aggregator, 4,096 x 16 x 8", "median, us"], cells)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _table(header: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table and an empty one; nothing without rows."""
    cells = list(cells)
    if not cells:
        return []
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *cells)] + [""]
