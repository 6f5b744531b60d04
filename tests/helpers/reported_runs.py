"""Run directories in the format of real runs, and a parser of report pages."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from dvaojax import files
from dvaojax.config import Config
from dvaojax.run import directory as run_directory

# Texts of completions that must not break a page.
HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    "</title></style><!-- ]]> <img src=x onerror='window.hacked = 1'> &amp; &lt;",
    "bell \x07, escape \x1b[31m, zero \x00, delete \x7f, return \r, next line \x85",
    "right to left \u202eevil\u202c, \u2067isolated\u2069, mark \u200f, half \ud83d, \ufeff",
    "שלום, مرحبا, 数学, 👩\u200d🔬, ∑ w_k",
)


def make_run(
    path: Path,
    *,
    steps: int = 40,
    objectives: tuple[str, ...] = ("accuracy", "brevity"),
    samples: list[dict[str, Any]] | None = None,
    finished: bool = True,
    **settings: Any,
) -> Path:
    """A complete run directory, or that of an interrupted run."""
    weights = dict.fromkeys(objectives, 1.0)
    config = dataclasses.replace(Config(name=path.name, weights=weights), **settings)
    run_directory.create(path, config)
    metrics = files.JsonLines(path / files.METRICS)
    for step in range(1, steps + 1):
        metrics.write(step, row(step, objectives))
    metrics.close()
    lines = files.JsonLines(path / files.SAMPLES)
    for sample in make_samples(steps, objectives) if samples is None else samples:
        lines.write(sample.pop("step"), sample)
    lines.close()
    if finished:
        evaluated = {
            when: {name: interval(mean + k / 10) for k, name in enumerate(objectives)}
            | {"length": interval(30.0)}
            for when, mean in (("before", 0.2), ("after", 0.7))
        }
        files.write_json(path / files.SUMMARY, {"wall_seconds": 171.4, **evaluated})
    return path


def row(step: int, objectives: tuple[str, ...]) -> dict[str, float]:
    """A step's metrics."""
    metrics = {"agreement": 0.5 + step % 3 / 10, "entropy": float("nan"), "kl": 0.0}
    for k, name in enumerate(objectives):
        metrics[f"reward/{name}"] = (step + k) / 100
        metrics[f"effective_weight/{name}"] = 1.0 / (step + k)
    metrics["shadow/gdpo/cosine"] = 1.0 - step / 1000
    metrics |= {"rollout_seconds": 0.1, "train_seconds": 0.2, "reward_seconds": 0.01}
    return metrics | {"sampled_tokens": 1000.0 + step, "tokens_per_second": 2000.0 + step}


def make_samples(steps: int, objectives: tuple[str, ...]) -> list[dict[str, Any]]:
    """Two completions per step; the second was not scored on the last objective."""
    return [
        {
            "step": step,
            "prompt": f"{step}+{step}=",
            "completion": f"[{step * (2 - wrong)}]",
            "rewards": {
                name: None if wrong and name == objectives[-1] else 1.0 - wrong
                for name in objectives
            },
            "advantage": 0.5 - wrong,
        }
        for step in range(1, steps + 1)
        for wrong in (0, 1)
    ]


def interval(mean: float) -> dict[str, float]:
    """A mean with its interval, as JSON."""
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


class Read(HTMLParser):
    """A parsed page.

    Attributes:
        elements: (tag, attributes) in order.
        texts: (tag of the enclosing element, text).
    """

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._inside = [""]
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "br"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        assert self._inside.pop() == tag, f"unmatched </{tag}>"

    def handle_data(self, data):
        self.texts.append((self._inside[-1], data))

    def inside(self, tag: str) -> list[str]:
        """The texts directly inside elements of a kind."""
        return [text for outer, text in self.texts if outer == tag]

    @property
    def data(self) -> dict[str, Any]:
        """The data of the script."""
        return json.loads(self.inside("script")[0])
