"""Content and labels of the plots of runs."""

import json

import numpy as np
import pytest

from dvaojax.errors import UserError
from dvaojax.evaluation import drawing, plot_run, plot_runs
from dvaojax.evaluation.history import read_history, smooth

NAMES = ["objectives", "effective_weights", "signal", "completions", "trade_off"]


def make_run(path, *, num_steps=40, objectives=("accuracy", "brevity"), after=(0.9, 0.8)):
    path.mkdir(parents=True)
    with (path / "metrics.jsonl").open("w") as file:
        for step in range(1, num_steps + 1):
            row = {"step": step, "agreement": 0.5, "completion_length": 50 - step, "entropy": None}
            for k, name in enumerate(objectives):
                row[f"reward/{name}"] = (step + k) / 100
                row[f"effective_weight/{name}"] = 1.0 + k
            file.write(json.dumps(row) + "\n")
    if after:
        evaluated = {
            when: {
                name: {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
                for name, mean in zip(objectives, means, strict=False)
            }
            for when, means in (("before", (0.1, 0.2)), ("after", after))
        }
        (path / "summary.json").write_text(json.dumps({"name": path.name} | evaluated))
    return path


@pytest.fixture
def figures(monkeypatch):
    """Saved figures by the name of their file."""
    saved = {}
    save = drawing.save

    def spy(figure, path, *, dpi):
        saved[path.stem] = figure
        save(figure, path, dpi=dpi)

    monkeypatch.setattr(drawing, "save", spy)
    return saved


def test_plots_of_one_run(tmp_path, figures):
    run = make_run(tmp_path / "trial")
    written = plot_run(run)
    assert [path.stem for path in written] == NAMES
    for path in written:
        assert path.parent == run / "plots"
        assert path.read_bytes().startswith(b"\x89PNG")
    for name, titles in {
        "objectives": ["accuracy", "brevity"],
        "effective_weights": ["accuracy", "brevity"],
        "signal": ["agreement of the objectives"],  # zero-variance groups are not recorded
        "completions": ["completion length"],  # entropy is not recorded
    }.items():
        figure = figures[name]
        assert figure.get_suptitle().endswith("· trial")
        assert [ax.get_title() for ax in figure.axes] == titles
        assert all(ax.get_xlabel().startswith("step") and ax.get_ylabel() for ax in figure.axes)
    raw, _ = figures["objectives"].axes[1].lines
    np.testing.assert_array_equal(raw.get_xdata(), np.arange(1, 41))
    np.testing.assert_array_equal(raw.get_ydata(), (np.arange(1, 41) + 1) / 100)


def test_evaluations_during_training_are_joined_points(tmp_path, figures):
    """They are in few rows; the steps between them are not gaps in the line."""
    run = make_run(tmp_path / "trial")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows[9::10]:
        row["evaluation/accuracy"] = row["step"] / 50
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run / "plots" / "held_out.png" in plot_run(run)
    (ax,) = figures["held_out"].axes
    for line in ax.lines:
        np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30, 40])
        np.testing.assert_allclose(line.get_ydata(), [0.2, 0.4, 0.6, 0.8])


def test_several_runs_have_different_styles(tmp_path, figures):
    after = {"a": (0.9, 0.3), "b": (0.5, 0.5), "c": (0.3, 0.9), "d": (0.4, 0.4)}
    runs = [make_run(tmp_path / name, after=point) for name, point in after.items()]
    plot_runs(runs, tmp_path / "out")
    for name in NAMES:
        (legend,) = figures[name].legends
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels[:4] == list(after)
    lines = figures["objectives"].axes[0].lines
    assert len({line.get_color() for line in lines}) == 4
    # The front of a, b and c; d is dominated by b.
    front = max(figures["trade_off"].axes[0].lines, key=lambda line: line.get_linestyle() == "--")
    corners = np.stack([front.get_xdata(), front.get_ydata()], axis=1)
    np.testing.assert_allclose(corners[1:-1], [[0.3, 0.9], [0.5, 0.5], [0.9, 0.3]])


def test_legends_do_not_cover_the_data(tmp_path, figures):
    runs = [make_run(tmp_path / f"a_run_with_a_rather_long_name_{i}") for i in range(5)]
    plot_runs(runs, tmp_path / "out")
    for figure in figures.values():
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= 0.0
        assert box.x1 <= figure.bbox.x1
        for ax in figure.axes:
            assert not box.overlaps(ax.get_tightbbox())


def test_runs_with_equal_names_are_named_by_path(tmp_path, figures):
    runs = [make_run(tmp_path / folder / "trial") for folder in ("one", "two")]
    plot_runs(runs, tmp_path / "out")
    labels = [text.get_text() for text in figures["objectives"].legends[0].get_texts()]
    assert labels == [str(run) for run in runs]


def test_unfinished_run_and_run_with_other_objectives(tmp_path, figures):
    unfinished = make_run(tmp_path / "unfinished", num_steps=1, after=None)
    other = make_run(tmp_path / "other", objectives=("rubric",))
    assert [path.stem for path in plot_run(other)] == NAMES[:-1]  # one objective: no trade-off
    plot_runs([unfinished, other], tmp_path / "out")
    assert [ax.get_title() for ax in figures["objectives"].axes] == [
        "accuracy",
        "brevity",
        "rubric",
    ]
    assert figures["trade_off"].get_suptitle() == "Trade-off · unfinished"


def test_objectives_of_the_trade_off_can_be_chosen(tmp_path, figures):
    run = make_run(tmp_path / "a", objectives=("accuracy", "brevity", "format"))
    plot_runs([run], tmp_path / "out", objectives=("format", "accuracy"))
    (ax,) = figures["trade_off"].axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("format (mean reward)", "accuracy (mean reward)")
    with pytest.raises(UserError, match="no run has the objective fromat: the nearest is format"):
        plot_runs([run], tmp_path / "none", objectives=("fromat", "accuracy"))
    assert not (tmp_path / "none").exists()


def test_refuses_directories_that_are_not_runs(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a run: it has no metrics\.jsonl"):
        plot_run(tmp_path / "nowhere")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="has nothing to plot yet"):
        plot_run(tmp_path)
    assert not (tmp_path / "plots").exists()


def test_missing_values_are_nan(tmp_path):
    rows = [{"step": 1, "a": 1.0}, {"step": 2, "a": None, "b": 2}, {"step": 3, "b": 3}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    history = read_history(tmp_path)
    np.testing.assert_array_equal(history.steps, [1, 2, 3])
    np.testing.assert_array_equal(history.columns["a"], [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(history.columns["b"], [np.nan, 2.0, 3.0])


def test_smoothing_is_a_centred_average():
    values = np.random.default_rng(0).normal(size=60)
    values[17] = np.nan
    reach = [min(3, i, 59 - i) for i in range(60)]  # 60 / 20 on each side, and less at the ends
    expected = [np.nanmean(values[i - r : i + r + 1]) for i, r in enumerate(reach)]
    np.testing.assert_allclose(smooth(values), expected)
    np.testing.assert_allclose(smooth(np.arange(60.0)), np.arange(60.0))  # no lag, no bias
    np.testing.assert_allclose(smooth(values)[::-1], smooth(values[::-1]))
    assert smooth(values)[0] == values[0]  # a path begins where the run began
    np.testing.assert_array_equal(smooth(np.array([2.0, 5.0])), [2.0, 5.0])
    assert np.isnan(smooth(np.full(3, np.nan))).all()


def test_objective_that_no_completion_had_is_left_out_of_the_trade_off(tmp_path):
    run = make_run(tmp_path / "trial")
    summary = json.loads((run / "summary.json").read_text())
    for when in ("before", "after"):
        summary[when]["brevity"] = None
    (run / "summary.json").write_text(json.dumps(summary))
    assert [path.stem for path in plot_run(run)] == NAMES


@pytest.mark.parametrize(
    ("row", "summary", "message"),
    [
        ('{"step": 1, "reward/a": "high"}', "{}", "reward/a of step 1 is 'high', not a number"),
        ('{"step": 1, "reward/a": [1]}', "{}", "reward/a of step 1 is .1., not a number"),
        ('{"step": 1, "reward/a": 1.0}', "[]", "summary.json is not a summary of a run"),
    ],
)
def test_names_what_is_wrong_in_the_files_of_a_run(tmp_path, row, summary, message):
    (tmp_path / "metrics.jsonl").write_text(row + "\n")
    (tmp_path / "summary.json").write_text(summary)
    with pytest.raises(UserError, match=message):
        plot_run(tmp_path)
