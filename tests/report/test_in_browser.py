"""Reports in a browser: no network requests, no errors, and working interaction."""

import re

import pytest
from browser import BROWSER, browser
from reported_runs import HOSTILE, make_run

from dvaojax.config import AggregatorConfig
from dvaojax.report import curves, write_report
from dvaojax.report.markup import visible

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    directory = tmp_path_factory.mktemp("browser")
    with browser(directory) as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports of a run with hostile texts, of two runs of which one was stopped, of long runs."""
    directory = tmp_path_factory.mktemp("reports")
    texts = [text for text in HOSTILE if "\ud83d" not in text]
    rows = [
        {
            "step": step,
            "prompt": text,
            "completion": text * 2,
            "rewards": {"accuracy": float(step), "<b>": None},
            "advantage": -1.0,
        }
        for step, text in enumerate(texts, start=1)
    ]
    hostile = make_run(directory / "hostile <i>&", samples=rows, objectives=("accuracy", "<b>"))
    gdpo = make_run(
        directory / "gdpo", aggregator=AggregatorConfig("gdpo"), objectives=("accuracy", "format")
    )
    stopped = make_run(directory / ("stopped_with_a_long_name_" * 4), finished=False, steps=9)
    long = make_run(directory / "long", steps=1500)
    longer = make_run(directory / "longer", steps=2000)
    return {
        "long": write_report([long, longer], directory / "long.html"),
        "one": write_report([hostile]),
        "several": write_report([gdpo, stopped], directory / "several.html"),
    }


@pytest.fixture
def opened(page, reports):
    """Function that opens a report with a given width and colour scheme."""

    def open_report(which, **options):
        page.requests.clear()
        page.errors.clear()
        page.open(reports[which], **options)
        return page

    return open_report


def test_browser_reports_requests_and_errors(page, tmp_path):
    (tmp_path / "bad.html").write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>throw new Error('on purpose')</script>"
    )
    page.open(tmp_path / "bad.html")
    assert "http://127.0.0.1:9/x.png" in page.requests
    assert any("on purpose" in error for error in page.errors)


@pytest.mark.parametrize("which", ["one", "several"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("dark", [False, True])
def test_no_requests_and_no_errors(opened, reports, which, width, dark):
    page = opened(which, width=width, dark=dark)
    assert page.requests == [reports[which].resolve().as_uri()]
    assert page.errors == []
    # Only wide tables scroll horizontally, not the page.
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('svg').length") > 8


CONTRASTS = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const linear = channels(colour).slice(0, 3).map((c) =>
      c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const background = (node) => {
    while (node && channels(getComputedStyle(node).backgroundColor)[3] === 0) {
      node = node.parentElement;
    }
    return getComputedStyle(node ?? document.body).backgroundColor;
  };
  const contrast = (node, property) => {
    const [a, b] = [getComputedStyle(node)[property], background(node)].map(light);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const least = (selector, property) =>
    Math.min(...[...document.querySelectorAll(selector)].map((n) => contrast(n, property)));
  return {
    text: least("h1, h2, p, a, th, td, summary, dt, dd, label span, .text", "color"),
    labels: least("svg .tick, svg .axis", "fill"),
    lines: least("svg .smooth", "stroke"),
  };
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(opened, dark):
    """Contrast ratios of WCAG 2.2, level AA: 4.5 for text, 3 for graphics."""
    page = opened("several", dark=dark)
    contrast = page.run(CONTRASTS)
    assert contrast["text"] >= 4.5
    assert contrast["labels"] >= 4.5
    assert contrast["lines"] >= 3.0
    assert page.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 21, 25)" if dark else "rgb(247, 247, 245)"
    )


def test_without_scripts_everything_but_the_search_works(opened, page):
    page.with_scripts(off=True)
    try:
        opened("one")
        shown = page.run("document.body.innerText")
    finally:
        page.with_scripts(off=False)
    assert page.errors == []
    for text in ("At a glance", "0.700 [0.650, 0.750]", "agreement", "Environment"):
        assert text in shown
    assert "Scripts are disabled; the completions are in samples.jsonl." in shown


def completions(page):
    return page.run("[...document.querySelectorAll('.completion .text')].map(n => n.textContent)")


def search(page, **fields):
    """Fills in the search form; returns the text with the number of matches."""
    for name, value in fields.items():
        page.run(
            f"(() => {{ const field = document.getElementById({name!r}); field.value = {value!r};"
            " field.dispatchEvent(new Event('input')); })()"
        )
    return page.run("document.getElementById('count').textContent")


def test_completions_are_shown_as_text(opened):
    page = opened("one")
    texts = [text for text in HOSTILE if "\ud83d" not in text]
    assert completions(page) == [visible(text * 2) for text in reversed(texts)]
    assert (
        page.run("document.querySelectorAll('#results img, #results script, #results b').length")
        == 0
    )
    assert page.run("document.querySelector('.rewards').textContent") == (
        "accuracy4<b>not scoredadvantage-1"
    )


def test_search_of_completions(opened):
    page = opened("several")
    assert search(page) == "98 of 98 completions"
    assert search(page, query="9+9=") == "4 of 98 completions"  # of step 9, in both runs
    assert page.run("document.querySelectorAll('mark').length") > 0
    assert search(page, **{"run-filter": "1"}) == "2 of 98 completions"
    assert search(page, query="", measure="accuracy", least="0.5") == "9 of 98 completions"
    assert search(page, **{"run-filter": ""}, measure="format", least="", most="1") == (
        "40 of 98 completions"  # the others were not scored on it, or do not have it
    )
    assert search(page, most="", measure="advantage", order="low") == "98 of 98 completions"
    last = "[...document.querySelectorAll('.rewards > :last-child dd')]"
    values = page.run(f"{last}.map(n => n.textContent)")
    assert set(values) == {"-0.5"}
    assert search(page, order="first", query="nothing like it") == "0 of 98 completions"
    assert page.errors == []


def test_button_shows_more_completions(opened):
    page = opened("several")
    before = len(completions(page))
    page.run("document.getElementById('more').click()")
    assert len(completions(page)) == 2 * before
    search(page, query="[18]")
    assert page.run("document.getElementById('more').hidden")


def test_values_of_curves_with_pointer_and_keys(opened):
    page = opened("several")
    page.run("document.getElementById('objectives').scrollIntoView()")
    box = page.run(
        "(() => { const b = document.querySelector('[data-chart] svg').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    page.point(box[0] + box[2] / 2, box[1] + box[3] / 2)
    tip = "document.querySelector('.tip:not([hidden])')?.textContent"
    shown = page.run(tip)
    step = int(shown.removeprefix("step ")[:2])
    assert 15 < step < 26
    assert shown == f"step {step}gdpo{step / 100}"
    # The dot is on the curve, whose points are checked in `test_pictures`.
    dot = page.run(
        "(() => { const dot = document.querySelector('.at.run-0'); const d = document"
        ".querySelector('[data-chart] .each').getAttribute('d').slice(1).split('L')"
        f"[{step - 1}].split(' '); return [dot.getAttribute('cx') - d[0],"
        " dot.getAttribute('cy') - d[1]]; })()"
    )
    assert max(map(abs, dot)) < 0.1
    page.point(1, 1)
    assert page.run(tip) is None
    page.run("document.querySelector('[data-chart]').focus()")
    page.key("End")
    assert page.run(tip) == "step 40gdpo0.4"
    page.key("Home")
    assert page.run(tip).startswith("step 1gdpo0.01stopped_with_a_long_name_")
    page.key("ArrowRight")
    assert page.run(tip).startswith("step 2gdpo0.02")
    page.key("Escape")
    assert page.run(tip) is None
    assert page.errors == []


def test_long_runs_show_the_nearest_kept_step(opened):
    page = opened("long")
    page.run("document.querySelector('[data-chart]').focus()")
    for _ in range(5):
        page.key("ArrowRight")
    shown = page.run("document.querySelector('.tip:not([hidden])').textContent")
    step, long, longer = re.fullmatch(r"step (\d+)long(0.\d+)longer(0.\d+)", shown).groups()
    for value in (long, longer):  # the value at step s is s / 100
        assert abs(float(value) * 100 - int(step)) <= 2000 / curves.POINTS
    page.key("End")
    assert page.run("document.querySelector('.tip:not([hidden])').textContent") == (
        "step 2,000longer20"  # the other run has ended
    )
