"""A report in a browser: no request leaves the file, nothing fails, and it can be used."""

import re

import pytest
from browser import BROWSER, browser
from reported_runs import HOSTILE, make_run

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
    """A report of one hostile run, and one of two runs of which one was stopped."""
    place = tmp_path_factory.mktemp("reports")
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
    hostile = make_run(place / "hostile <i>&", samples=rows, objectives=("accuracy", "<b>"))
    gdpo = make_run(place / "gdpo", aggregator="gdpo", objectives=("accuracy", "format"))
    stopped = make_run(place / ("stopped_with_a_long_name_" * 4), finished=False, steps=9)
    long = make_run(place / "long", steps=1500)
    longer = make_run(place / "longer", steps=2000)
    return {
        "long": write_report([long, longer], place / "long.html"),
        "one": write_report([hostile]),
        "several": write_report([gdpo, stopped], place / "several.html"),
    }


@pytest.fixture
def opened(page, reports):
    """Opens a report in a fresh page of a width and a scheme."""

    def open_it(which, **how):
        page.requests.clear()
        page.errors.clear()
        page.open(reports[which], **how)
        return page

    return open_it


def test_what_is_looked_for_would_be_found(page, tmp_path):
    (tmp_path / "bad.html").write_text(
        "<img src='http://127.0.0.1:9/x.png'><script>throw new Error('on purpose')</script>"
    )
    page.open(tmp_path / "bad.html")
    assert "http://127.0.0.1:9/x.png" in page.requests
    assert any("on purpose" in error for error in page.errors)


@pytest.mark.parametrize("which", ["one", "several"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("dark", [False, True])
def test_no_request_leaves_and_nothing_fails(opened, reports, which, width, dark):
    page = opened(which, width=width, dark=dark)
    assert page.requests == [reports[which].resolve().as_uri()]
    assert page.errors == []
    # The page itself never scrolls sideways; wide tables do, by themselves.
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
  const behind = (node) => {
    while (node && channels(getComputedStyle(node).backgroundColor)[3] === 0) {
      node = node.parentElement;
    }
    return getComputedStyle(node ?? document.body).backgroundColor;
  };
  const contrast = (node, property) => {
    const [a, b] = [getComputedStyle(node)[property], behind(node)].map(light);
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
def test_it_can_be_read(opened, dark):
    """By the ratios of WCAG 2.2, level AA: 4.5 for text, 3 for what is drawn."""
    page = opened("several", dark=dark)
    found = page.run(CONTRASTS)
    assert found["text"] >= 4.5
    assert found["labels"] >= 4.5
    assert found["lines"] >= 3.0
    assert page.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 21, 25)" if dark else "rgb(247, 247, 245)"
    )


def test_without_scripts_everything_but_the_search_is_there(opened, page):
    page.with_scripts(off=True)
    try:
        opened("one")
        shown = page.run("document.body.innerText")
    finally:
        page.with_scripts(off=False)
    assert page.errors == []
    for text in ("At a glance", "0.700 [0.650, 0.750]", "agreement", "Environment"):
        assert text in shown
    assert "Scripts are off; the completions are in samples.jsonl." in shown


def completions(page):
    return page.run("[...document.querySelectorAll('.completion .text')].map(n => n.textContent)")


def ask(page, **fields):
    """Fills in the form; what stands in a field was typed or chosen there."""
    for name, value in fields.items():
        page.run(
            f"(() => {{ const field = document.getElementById({name!r}); field.value = {value!r};"
            " field.dispatchEvent(new Event('input')); })()"
        )
    return page.run("document.getElementById('count').textContent")


def test_completions_are_text(opened):
    page = opened("one")
    texts = [text for text in HOSTILE if "\ud83d" not in text]
    assert completions(page) == [visible(text * 2) for text in reversed(texts)]
    assert page.run("document.querySelectorAll('#found img, #found script, #found b').length") == 0
    assert page.run("document.querySelector('.rewards').textContent") == (
        "accuracy4<b>not scoredadvantage-1"
    )


def test_completions_are_searched(opened):
    page = opened("several")
    assert ask(page) == "98 of 98 completions"
    assert ask(page, words="9+9=") == "4 of 98 completions"  # of step 9, in both
    assert page.run("document.querySelectorAll('mark').length") > 0
    assert ask(page, **{"of-run": "1"}) == "2 of 98 completions"
    assert ask(page, words="", measure="accuracy", least="0.5") == "9 of 98 completions"
    assert ask(page, **{"of-run": ""}, measure="format", least="", most="1") == (
        "40 of 98 completions"  # the others were not scored on it, or do not know it
    )
    assert ask(page, most="", measure="advantage", order="low") == "98 of 98 completions"
    last = "[...document.querySelectorAll('.rewards > :last-child dd')]"
    values = page.run(f"{last}.map(n => n.textContent)")
    assert set(values) == {"-0.5"}
    assert ask(page, order="first", words="nothing like it") == "0 of 98 completions"
    assert page.errors == []


def test_more_is_shown_on_demand(opened):
    page = opened("several")
    before = len(completions(page))
    page.run("document.getElementById('more').click()")
    assert len(completions(page)) == 2 * before
    ask(page, words="[18]")
    assert page.run("document.getElementById('more').hidden")


def test_curves_are_read_with_the_pointer_and_with_keys(opened):
    page = opened("several")
    page.run("document.getElementById('objectives').scrollIntoView()")
    box = page.run(
        "(() => { const b = document.querySelector('[data-chart] svg').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    page.point(box[0] + box[2] / 2, box[1] + box[3] / 2)
    tip = "document.querySelector('.tip:not([hidden])')?.textContent"
    said = page.run(tip)
    step = int(said.removeprefix("step ")[:2])
    assert 15 < step < 26
    assert said == f"step {step}gdpo{step / 100}"
    # The dot lies on the curve, whose points are where `test_pictures` says.
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


def test_of_long_runs_the_nearest_step_is_read(opened):
    page = opened("long")
    page.run("document.querySelector('[data-chart]').focus()")
    for _ in range(5):
        page.key("ArrowRight")
    said = page.run("document.querySelector('.tip:not([hidden])').textContent")
    step, long, longer = re.fullmatch(r"step (\d+)long(0.\d+)longer(0.\d+)", said).groups()
    for value in (long, longer):  # of step s it is s / 100
        assert abs(float(value) * 100 - int(step)) <= 2000 / curves.POINTS
    page.key("End")
    assert page.run("document.querySelector('.tip:not([hidden])').textContent") == (
        "step 2,000longer20"  # the other had ended
    )
