"""Section with the completions that runs kept, and a search for them."""

from collections.abc import Iterable, Sequence

from dvaojax import files
from dvaojax.report.blocks import Section, gap, gaps, run_name, section
from dvaojax.report.contents import RunContents
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.samples import CHARACTERS, SampleSelection

_ORDERS = (
    ("last", "last steps first"),
    ("first", "first steps first"),
    ("high", "highest first"),
    ("low", "lowest first"),
)


def samples(
    runs: Sequence[RunContents], kept: Sequence[SampleSelection], objectives: Sequence[str]
) -> Section:
    """The search form, and an empty element that the script fills with completions.

    Args:
        runs: of the report.
        kept: their completions.
        objectives: those of the reward filter.
    """
    title = "Sampled completions"
    if not any(selection.shown for selection in kept):
        return section("samples", title, "", gaps(runs, "samples"))
    about = (
        "The first completions of the first group of each step, with all rewards and the advantage "
        "of their tokens."
    )
    names = dict.fromkeys(
        name
        for selection in kept
        for group in selection.groups
        for _, rewards, _ in group["completions"]
        for name in rewards
    )
    measures = [*dict.fromkeys([*(o for o in objectives if o in names), *names]), "advantage"]
    form = element(
        "div",
        _field("text", element("input", type="search", id="query", placeholder="any text")),
        _field("run", _choice("run-filter", _runs(runs))) if len(runs) > 1 else None,
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
        element("div", "", id="results"),
        element("button", "Show more", id="more", type="button", hidden=True),
        element("noscript", gap(f"Scripts are disabled; the completions are in {files.SAMPLES}.")),
        join(
            line for index, selection in enumerate(kept) for line in _notes(index, runs, selection)
        ),
        gaps(runs, "samples"),
    )


def _notes(index: int, runs: Sequence[RunContents], kept: SampleSelection) -> Iterable[Markup]:
    """Notes on completions of the run's file that are not on the page."""
    path = runs[index].path / files.SAMPLES
    if kept.shown < kept.total:
        text = f"{kept.shown:,} of {kept.total:,} completions, evenly over the steps; all: {path}"
        yield element("p", run_name(index, runs[index]), ": ", text, class_="gap")
    if kept.unreadable:
        text = f"{kept.unreadable:,} lines of {path} are not completions and were skipped"
        yield element("p", run_name(index, runs[index]), ": ", text, class_="gap")
    if any("[…]" in c[0] for group in kept.groups for c in group["completions"]):
        text = f"Texts are cut after {CHARACTERS:,} characters; complete: {path}"
        yield element("p", run_name(index, runs[index]), ": ", text, class_="gap")


def _runs(runs: Sequence[RunContents]) -> list[tuple[str, str]]:
    return [("", "all"), *((str(index), run.name) for index, run in enumerate(runs))]


def _field(label: str, control: Markup) -> Markup:
    return element("label", element("span", label), control)


def _choice(name: str, options: Iterable[tuple[str, str]]) -> Markup:
    items = [element("option", text, value=value) for value, text in options]
    return element("select", join(items), id=name)
