"""The completions that a run kept, to be searched by the page's script."""

from collections.abc import Iterable, Sequence

from dvaojax import files
from dvaojax.report.blocks import Section, gap, gaps, run_name, section
from dvaojax.report.contents import Contents
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.samples import CHARACTERS, Kept

_ORDERS = (
    ("last", "last steps first"),
    ("first", "first steps first"),
    ("high", "highest first"),
    ("low", "lowest first"),
)


def samples(runs: Sequence[Contents], kept: Sequence[Kept], objectives: Sequence[str]) -> Section:
    """The form, and the place that the script puts completions into.

    Args:
        runs: of the report.
        kept: their completions.
        objectives: whose rewards can be asked for.
    """
    title = "Sampled completions"
    if not any(of.shown for of in kept):
        return section("samples", title, "", gaps(runs, "samples"))
    about = (
        "The first completions of the first group of each step, with every reward and the "
        "advantage that their tokens were weighted with."
    )
    names = dict.fromkeys(
        name for of in kept for group in of.groups for _, r, _ in group["completions"] for name in r
    )
    measures = [*dict.fromkeys([*(o for o in objectives if o in names), *names]), "advantage"]
    form = element(
        "div",
        _field("text", element("input", type="search", id="words", placeholder="any text")),
        _field("run", _choice("of-run", _runs(runs))) if len(runs) > 1 else None,
        _field("reward", _choice("measure", [(name, name) for name in measures])),
        _field("at least", element("input", type="number", step="any", id="least")),
        _field("at most", element("input", type="number", step="any", id="most")),
        _field("order", _choice("order", _ORDERS)),
        class_="search",
        role="search",
        aria_label=title,
    )
    return section(
        "samples",
        title,
        about,
        form,
        element("p", "", id="count", role="status"),
        element("div", "", id="found"),
        element("button", "Show more", id="more", type="button", hidden=True),
        element("noscript", gap(f"Scripts are off; the completions are in {files.SAMPLES}.")),
        join(line for place, of in enumerate(kept) for line in _notes(place, runs, of)),
        gaps(runs, "samples"),
    )


def _notes(place: int, runs: Sequence[Contents], kept: Kept) -> Iterable[Markup]:
    """What of the run's file is not on the page."""
    path = runs[place].path / files.SAMPLES
    if kept.shown < kept.total:
        text = f"{kept.shown:,} of {kept.total:,} completions, evenly over the steps; all: {path}"
        yield element("p", run_name(place, runs[place]), ": ", text, class_="gap")
    if kept.unreadable:
        text = f"{kept.unreadable:,} lines of {path} are no completions, and left out"
        yield element("p", run_name(place, runs[place]), ": ", text, class_="gap")
    if any("[…]" in c[0] for group in kept.groups for c in group["completions"]):
        text = f"What is longer than {CHARACTERS:,} characters is cut; whole: {path}"
        yield element("p", run_name(place, runs[place]), ": ", text, class_="gap")


def _runs(runs: Sequence[Contents]) -> list[tuple[str, str]]:
    return [("", "all"), *((str(place), run.name) for place, run in enumerate(runs))]


def _field(label: str, control: Markup) -> Markup:
    return element("label", element("span", label), control)


def _choice(name: str, options: Iterable[tuple[str, str]]) -> Markup:
    chosen = [element("option", text, value=value) for value, text in options]
    return element("select", join(chosen), id=name)
