"""The page: sections, data, style and script in one file without network requests.

The content security policy allows only this script and this style, by their hashes, and no
requests. Text in completions could not change that even if it were not escaped.
"""

import base64
import datetime
import hashlib
import json
import string
from collections.abc import Sequence
from importlib import resources
from typing import Any

import dvaojax
from dvaojax.report.blocks import Section, run_name
from dvaojax.report.configuration import configuration
from dvaojax.report.contents import RunContents
from dvaojax.report.environment import environment
from dvaojax.report.evaluations import before_and_after, later, trade_offs
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.measured import measured
from dvaojax.report.overview import overview
from dvaojax.report.samples import COMPLETIONS, choose
from dvaojax.report.search import samples
from dvaojax.report.timing import timing

# Identifies a file as a report; near its beginning.
SIGN = '<meta name="generator" content="dvaojax report">'


def page(runs: Sequence[RunContents], *, now: datetime.datetime) -> str:
    """The report of one or several runs, as HTML.

    Args:
        runs: at least one.
        now: time of writing, shown in the header.
    """
    objectives = list(dict.fromkeys(name for run in runs for name in run.objectives))
    kept = [choose(run, i, at_most=COMPLETIONS // len(runs)) for i, run in enumerate(runs)]
    curves = measured(runs)
    settings = configuration(runs)
    every = [
        overview(runs, objectives),
        settings if len(runs) > 1 else None,  # differences before results
        before_and_after(runs),
        trade_offs(runs, objectives),
        *curves.sections,
        samples(runs, kept, objectives),
        later(runs),
        timing(runs),
        settings if len(runs) == 1 else None,
        environment(runs),
    ]
    sections = [section for section in every if section is not None]
    names = " and ".join(run.name for run in runs) if len(runs) < 3 else f"{len(runs)} runs"
    script, style = _asset("page.js"), _asset("page.css")
    data = {
        "runs": [run.name for run in runs],
        "charts": curves.charts,
        "samples": [group for selection in kept for group in selection.groups],
    }
    return string.Template(_asset("page.html")).substitute(
        sign=SIGN,
        script_hash=_hash(script),
        style_hash=_hash(style),
        title=element("title", f"{names} · dvaojax report"),
        style=style,
        header=_header(names, now),
        contents=_contents(runs, sections),
        sections=join(section.markup for section in sections),
        data=_json(data),
        script=script,
    )


def _header(names: str, now: datetime.datetime) -> Markup:
    note = f"dvaojax {dvaojax.__version__} report, {now:%Y-%m-%d %H:%M} UTC"
    return element(
        "header", element("p", note, class_="made"), element("h1", element("bdi", names))
    )


def _contents(runs: Sequence[RunContents], sections: Sequence[Section]) -> Markup:
    """Links to the sections, always visible; with several runs also a legend."""
    links = [
        element("li", element("a", section.name, href=f"#{section.name}")) for section in sections
    ]
    legend = [element("li", run_name(index, run)) for index, run in enumerate(runs)]
    return element(
        "nav",
        element("ul", join(links), class_="sections", tabindex=0),
        element("ul", join(legend), class_="legend") if len(runs) > 1 else None,
        aria_label="contents",
    )


def _asset(name: str) -> str:
    return resources.files(dvaojax).joinpath("report", "assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash of a script or a style for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    """ASCII JSON that cannot close the script element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
