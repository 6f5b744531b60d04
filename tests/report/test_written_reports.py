"""Reports contain the data of runs, note missing parts, and replace only other reports."""

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path

import pytest
from reported_runs import HOSTILE, Read, make_run

from dvaojax import cli, files
from dvaojax.config import AggregatorConfig, Config
from dvaojax.errors import UserError
from dvaojax.report import samples, write_report
from dvaojax.report.markup import visible
from dvaojax.run import directory as run_directory


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "trial")


def read(*runs, **options):
    """Writes the report of some runs, and parses it."""
    return Read(write_report(list(runs), **options).read_text())


def text_of(page):
    return " ".join(" ".join(text for _, text in page.texts).split())


def sections(page):
    return [attributes["id"] for tag, attributes in page.elements if tag == "section"]


def test_all_sections_are_present_and_linked(run):
    page = read(run)
    assert sections(page) == [
        *("overview", "evaluation", "trade-off", "objectives", "weights", "agreement", "shadows"),
        *("completions", "learning", "speed", "samples", "timing", "configuration", "environment"),
    ]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == [f"#{name}" for name in sections(page)]


def test_every_metric_is_on_the_page(run):
    page = read(run)
    assert [text for tag, text in page.texts if tag == "b"] == [
        *("accuracy", "brevity", "length", "brevity against accuracy"),  # held-out problems
        *("accuracy", "brevity"),  # rewards over the steps
        *("accuracy", "brevity"),  # effective weights
        *("agreement", "gdpo", "tokens per second", "sampled tokens"),
    ]
    constant = [text for _, text in page.texts if text.startswith("Constant: ")]
    assert constant == [
        "Constant: entropy (not measured).",
        "Constant: kl 0.",
        "Constant: rollout_seconds 0.1, train_seconds 0.2, reward_seconds 0.01.",
    ]


def test_evaluations_during_training_are_a_section_of_joined_points(run):
    path = run / files.METRICS
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[9::10]:
        row["evaluation/accuracy"] = row["step"] / 50
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report([run]).read_text()
    assert "held-out" in sections(Read(page))
    assert "trial: 0.2 at step 10, 0.8 at step 40." in page
    (line,) = re.findall(
        r'<g class="[^"]*"><path d="([^"]*)" class="each"',
        page.split('id="held-out"')[1].split("<section")[0],
    )
    assert (line.count("M"), line.count("L")) == (1, 3)


def test_numbers_match_the_files(run):
    page = read(run)
    rows = files.read_json_lines(run / "metrics.jsonl")
    by_steps = [
        dict(zip(curve["steps"], curve["values"], strict=True))
        for chart in page.data["charts"]
        for curve in chart["curves"]
    ]
    for name in ("reward/accuracy", "effective_weight/brevity", "agreement"):
        measured = {row["step"]: float(f"{row[name]:.5g}") for row in rows}
        assert measured in by_steps, name
    text = text_of(page)
    assert "0.700 [0.650, 0.750]" in text
    assert "+0.500" in text
    assert "2 min 51 s" in text


def test_samples_match_the_file(run):
    groups = read(run).data["samples"]
    rows = [
        {"step": g["step"], "prompt": g["prompt"], "completion": c, "rewards": r, "advantage": a}
        for g in groups
        for c, r, a in g["completions"]
    ]
    assert rows == files.read_json_lines(run / "samples.jsonl")


def test_hostile_text_is_data_only(tmp_path):
    rows = [
        {"step": 1, "prompt": text, "completion": text, "rewards": {"a": 1.0}, "advantage": 0.0}
        for text in HOSTILE
        if "\ud83d" not in text
    ]
    lone_surrogate = {
        "step": 1,
        "prompt": "p",
        "completion": "\ud83d",
        "rewards": {"a": 1},
        "advantage": 0,
    }
    run = make_run(tmp_path / "<b>&amp; </script>"[:5], samples=rows, objectives=("<i>a", "b'\""))
    with (run / "samples.jsonl").open("a") as file:
        file.write(json.dumps(lone_surrogate) + "\n")
    page = read(run)
    kept = [c[0] for group in page.data["samples"] for c in group["completions"]]
    assert kept == [visible(text) for text in HOSTILE if "\ud83d" not in text] + ["⟨U+D83D⟩"]
    assert {tag for tag, _ in page.elements} & {"img", "iframe", "object", "b><", "i>a"} == set()
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert "<b>&a" in text_of(page)
    assert "<i>a" in text_of(page)


def test_page_is_self_contained(run):
    html = write_report([run]).read_text()
    page = Read(html)
    addresses = [a for _, attributes in page.elements for a in attributes if a in ("src", "srcset")]
    assert addresses == []
    links = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert all(link.startswith(("#", "data:")) for link in links)
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {
        "http://www.w3.org/2000/svg"
    }  # a namespace
    assert not re.search(r"url\(|@import", html)
    (policy,) = [
        a["content"] for _, a in page.elements if "Security" in (a.get("http-equiv") or "")
    ]
    for kind, content in (
        ("script", page.inside("script")[1]),
        ("style", page.inside("style")[0]),
    ):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    styled = [tag for tag, attributes in page.elements if "style" in attributes]
    handlers = [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert styled == handlers == []


def test_differing_settings_come_first(tmp_path):
    runs = [
        make_run(tmp_path / "one"),
        make_run(
            tmp_path / "two",
            aggregator=AggregatorConfig("gdpo"),
            seed=3,
            objectives=("accuracy", "rubric"),
        ),
    ]
    page = read(*runs, output=tmp_path / "both.html")
    assert sections(page)[:3] == ["overview", "configuration", "evaluation"]
    html = (tmp_path / "both.html").read_text()
    first = html[html.index('id="configuration"') :].partition("<details>")[0]
    keys = re.findall(r'<th scope="row"><code>(.*?)</code>', first)
    assert set(keys) == {"name", "seed", "aggregator.name", "weights.brevity", "weights.rubric"}
    assert len(page.data["runs"]) == 2
    accuracy = next(c for c in page.data["charts"] if len(c["curves"]) == 2)
    assert [curve["run"] for curve in accuracy["curves"]] == [0, 1]
    assert {group["run"] for group in page.data["samples"]} == {0, 1}


def test_runs_of_equal_name_are_named_by_their_paths(tmp_path):
    runs = [make_run(tmp_path / folder / "trial") for folder in ("one", "two")]
    assert read(*runs, output=tmp_path / "both.html").data["runs"] == [str(run) for run in runs]
    with pytest.raises(UserError, match="trial is given twice"):
        write_report([runs[0], runs[0]], tmp_path / "twice.html")


def gaps(page):
    """The notes about missing parts."""
    paragraphs, html = [], page
    for part in html.split('class="gap">')[1:]:
        paragraphs.append(re.sub(r"<[^>]*>", "", part.partition("</p>")[0]).strip())
    return paragraphs


@pytest.mark.parametrize(
    ("lost", "line"),
    [
        ("summary.json", "There is no summary.json: the run is in progress or was stopped"),
        ("samples.jsonl", "No completions were kept: samples.jsonl is missing or empty"),
        ("metrics.jsonl", "No step is finished yet"),
    ],
)
@pytest.mark.parametrize("damage", ["deleted", "empty", "broken"])
def test_missing_parts_are_noted(run, lost, line, damage):
    if damage == "deleted":
        (run / lost).unlink()
    else:
        (run / lost).write_text("" if damage == "empty" else "{]\n")
    html = write_report([run]).read_text()
    if damage == "broken" or (damage == "empty" and lost == "summary.json"):
        line = rf"{lost}(:1)? is not"
    notes = gaps(html)
    assert any(re.search(line, note) for note in notes), notes
    assert len(sections(Read(html))) >= 6


def test_killed_run_is_shown_up_to_its_last_complete_line(tmp_path):
    run = make_run(tmp_path / "killed", steps=7, finished=False)
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (run / name).open("a") as file:
            file.write('{"step": 8, "reward')  # an incomplete line
    page = read(run)
    assert "7 of 120, unfinished" in text_of(page)
    assert "~ 0.07" in text_of(page)
    assert len(page.data["samples"]) == 7


def test_run_before_its_first_step(tmp_path):
    run_directory.create(tmp_path / "new", Config())
    assert "0 of 120, unfinished" in text_of(read(tmp_path / "new"))
    both = read(tmp_path / "new", make_run(tmp_path / "old"), output=tmp_path / "both.html")
    assert {curve["run"] for chart in both.data["charts"] for curve in chart["curves"]} == {1}


def test_invalid_lines_are_skipped_and_counted(run):
    with (run / "samples.jsonl").open("a") as file:
        file.write('{"step": 41, "prompt": "p"}\n{"step": 42, "prompt": 1, "completion": ""}\n')
    html = write_report([run]).read_text()
    assert any("2 lines of" in gap for gap in gaps(html))
    assert len(Read(html).data["samples"]) == 40


def test_long_completions_are_cut_with_a_note(tmp_path):
    long = {"prompt": "p" * 5, "completion": "x" * 3_000_000, "rewards": {"a": 1.0}}
    run = make_run(tmp_path / "long", samples=[{"step": 1, **long, "advantage": 0.0}])
    html = write_report([run]).read_text()
    assert len(html) < 400_000
    ((text, _, _),) = Read(html).data["samples"][0]["completions"]
    assert text == "x" * samples.CHARACTERS + " […] (2,996,000 more characters)"
    assert any("complete:" in gap for gap in gaps(html))


def test_many_completions_are_thinned_by_whole_steps(tmp_path):
    run = make_run(tmp_path / "many", steps=3000)
    html = write_report([run]).read_text()
    groups = Read(html).data["samples"]
    steps = [group["step"] for group in groups]
    assert (steps[0], steps[-1]) == (1, 3000)
    assert {len(group["completions"]) for group in groups} == {2}
    assert sum(len(group["completions"]) for group in groups) <= samples.COMPLETIONS
    assert {b - a for a, b in itertools.pairwise(steps)} <= {2, 3, 4}
    assert any("2,000 of 6,000 completions" in gap for gap in gaps(html))


def test_later_evaluations_are_shown(run):
    directory = run / "evaluations" / "arithmetic-step-40"
    directory.mkdir(parents=True)
    interval = {"mean": 0.625, "low": 0.5, "high": 0.75}
    results = {
        "objectives": {"accuracy": {"avg@4": interval, "pass@1": None}},
        "not_scored": {"accuracy": 3},
        "length": interval,
        "cut_off": interval,
        "problems": 16,
    }
    settings = {"policy": {"step": 40}, "evaluation": {"sampling": {"temperature": 0.6}}}
    files.write_json(directory / "settings.json", settings)
    assert "Not finished" in text_of(read(run))
    summary = {"samples": 4, "pass_threshold": 1.0, "categories": {"easy": results}, **results}
    files.write_json(directory / "summary.json", summary)
    text = text_of(read(run))
    assert "arithmetic-step-40" in text
    assert "Checkpoint of step 40; 16 problems, 4 completions each at temperature 0.6" in text
    assert "0.625 [0.500, 0.750] — 3" in text
    assert "easy: 16 problems" in text


def test_report_replaces_only_reports(run, tmp_path):
    file = tmp_path / "here.html"
    assert write_report([run], file) == file
    before = file.stat().st_ino
    write_report([run], file)
    assert file.stat().st_ino != before  # a complete new file was moved there
    file.write_text("<html>my notes</html>")
    with pytest.raises(UserError, match=r"here\.html is not a report: replace it with --overwrite"):
        write_report([run], file)
    assert file.read_text() == "<html>my notes</html>"
    write_report([run], file, replaces="anything")
    assert "dvaojax report" in file.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"trial", "here.html"}


def test_unwritable_files_are_reported(run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no folder"):
        write_report([run], tmp_path / "nowhere" / "a.html")
    with pytest.raises(UserError, match="trial is a folder"):
        write_report([run], run)
    old = write_report([run]).read_text()

    def full(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"report\.html cannot be written: No space left on device"):
        write_report([run])
    assert (run / "report.html").read_text() == old
    assert not list(run.glob(".*"))


def test_run_with_a_report_can_be_overwritten(run):
    write_report([run])
    run_directory.overwrite(run, Config())
    assert not (run / "report.html").exists()


def test_command_line(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "trial"]) == 0
    assert capsys.readouterr().out == "trial/report.html\n"
    make_run(tmp_path / "other")
    assert cli.main(["report", "trial", "other"]) == 0
    assert capsys.readouterr().out == "report.html\n"
    (tmp_path / "notes").mkdir()
    (tmp_path / "mine.html").write_text("mine")
    for arguments, line in (
        (["notes"], "notes is not a run: it has no config.json"),
        (["trail"], "there is no run trail; the nearest is trial"),
        (["trial", "--out", "mine.html"], "mine.html is not a report"),
    ):
        assert cli.main(["report", *arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"dvaojax: {line}")
        assert printed.err.count("\n") == 1
    assert cli.main(["report", "trial", "--out", "mine.html", "--overwrite"]) == 0
