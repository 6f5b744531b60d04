"""Runs with an HTTP judge that fails in various ways, is killed, or is never available."""

import dataclasses
import math
import threading

import pytest
from digits_run import quick_programs
from judge_server import Act, JudgeServer, asked, honest, say
from rubric_run import ITEMS, OBJECTIVES, rubric_config

from dvaojax import cli, files
from dvaojax.errors import UserError
from dvaojax.rewards import RewardError
from dvaojax.rewards.judge import JudgeConfig
from dvaojax.train import loop, train
from dvaojax.train.session import MAY_DIFFER

FAULTS = (
    Act(status=429, headers={"Retry-After": "0"}),
    Act(b"overloaded", status=500),
    Act(sent=0),
    Act(b'{"choices": [{"mess', sent=12),
    Act(b"<html>not JSON</html>"),
    say('{"explanation": "Seen.", "criteria_met": "yes"}'),
    say(None),
    say("I think so."),
)
EXPERIMENT = (
    "from rubric_run import rubric_config\ndef get_config():\n    return rubric_config({url!r})\n"
)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch, quick_programs():
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(loop, "plot_run", lambda path: [])
        yield


def faulty(number, request):
    """Fails every third request in different ways, and all requests about answers with a 7."""
    answer, _ = asked(request)
    if "7" in answer:
        return Act(status=503, delay=0.02)
    if number % 101 == 100:
        return say("late", delay=0.8)
    return FAULTS[number // 3 % len(FAULTS)] if number % 3 == 0 else honest(request)


def expected(text):
    """Rewards by objective with the grades of a judge without faults."""
    met = {item: item.criterion.removeprefix("says ") in text for item in ITEMS}
    rewards = {}
    for name, objective in OBJECTIVES.items():
        items = objective.choose(ITEMS) if text else []
        points = [item.points for item in objective.choose(ITEMS)]
        value = objective.formula(points, [met[item] for item in items] or [False] * len(points))
        rewards[name] = value if value is None or text else 0.0
    return rewards


def rows(runs, name=files.METRICS):
    return files.read_json_lines(runs / "rubric" / name)


@pytest.mark.slow
def test_masks_and_counts_rewards_that_the_judge_failed_to_grade(tmp_path, capsys):
    with JudgeServer(faulty) as server:
        experiment = tmp_path / "experiment.py"
        experiment.write_text(EXPERIMENT.format(url=server.url))
        assert cli.main(["train", str(experiment), "--runs", str(tmp_path)]) == 0
    assert server.most_at_once > 4

    masked = scored = 0
    for sample in rows(tmp_path, files.SAMPLES):
        text, rewards = sample["completion"], sample["rewards"]
        assert rewards["brevity"] is not None
        for name, value in expected(text).items():
            if "7" in text or value is None:
                assert rewards[name] is None
            elif rewards[name] is not None:  # otherwise too many requests about an item failed
                assert rewards[name] == pytest.approx(value), text
                scored += 1
        masked += "7" in text
    assert masked
    assert scored

    steps = rows(tmp_path)
    assert len(steps) == 4
    totals = {name: sum(row[f"unscored/{name}"] for row in steps) for name in OBJECTIVES}
    assert totals["score"] >= masked
    assert totals["context_awareness"] == 0, "no item is about it, which is not a failure"
    for row in steps:
        assert row["unscored/brevity"] == 0
        assert row["judge/calls"] > row["judge/questions"] > row["judge/failed"]
        assert row["judge/tokens_in"] > row["judge/tokens_out"] > 0
        assert math.isfinite(row["loss"])
        assert row["skipped_updates"] == 0
    summary = files.read_json(tmp_path / "rubric" / files.SUMMARY)
    assert summary["unscored"] == {"brevity": 0, **totals}

    shown = capsys.readouterr().out
    for row in steps:
        count = sum(int(row[f"unscored/{name}"]) for name in OBJECTIVES)
        assert not count or f"{count} rewards not scored" in shown
    assert f"rewards that could not be scored in training: score {int(totals['score'])}, " in shown
    assert "questions failed: HTTP 503" in shown


def test_settings_of_requests_to_the_judge_may_change_on_resume():
    fixed = {"model", "temperature", "max_tokens"}
    names = {field.name for field in dataclasses.fields(JudgeConfig)} - fixed
    assert {key for key in MAY_DIFFER if "judge" in key} == {f"task.judge.{n}" for n in names}


@pytest.mark.nightly
@pytest.mark.slow
def test_a_killed_judge_stops_the_run_and_a_new_one_resumes_it(tmp_path):
    def dying(number, request):
        if number == 120:
            threading.Thread(target=server.stop).start()
        return honest(request)

    with JudgeServer(dying) as server:
        config = rubric_config(
            server.url, steps=8, attempts=2, max_failed_batches=2, timeout_seconds=10.0
        )
        with pytest.raises(RewardError, match=r"none of \d+ questions, in 2 batches in a row"):
            train(config, tmp_path)
    done = rows(tmp_path)
    assert 1 <= len(done) < 8
    assert done[-1]["unscored/score"] > 0
    before = [row for row in done if row["unscored/score"] == 0]
    assert before, "steps before that were scored completely"

    with JudgeServer(lambda n, r: honest(r), port=server.port):
        summary = train(config, tmp_path, start="resume")
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 9))
    assert rows(tmp_path)[-1]["unscored/score"] == 0
    assert summary["unscored"]["score"] > 0, "earlier failures are still counted"


@pytest.mark.slow
def test_an_unavailable_judge_stops_the_command_in_one_line(tmp_path, capsys):
    with JudgeServer(lambda n, r: honest(r)) as server:
        pass
    experiment = tmp_path / "experiment.py"
    experiment.write_text(EXPERIMENT.format(url=server.url))
    assert cli.main(["train", str(experiment), "--runs", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "answered none of" in error
    assert "ConnectError" in error


@pytest.mark.parametrize("place", ["a setting", "the experiment file"])
def test_a_password_in_the_address_reaches_neither_a_file_nor_a_message(tmp_path, capsys, place):
    secret = "http://judge:sesame@127.0.0.1:9/v1"
    experiment = tmp_path / "experiment.py"
    url = secret if place == "the experiment file" else "http://127.0.0.1:9/v1"
    experiment.write_text(EXPERIMENT.format(url=url))
    changes = ["--set", f"task.judge.url={secret}"] if place == "a setting" else []
    runs = tmp_path / "runs"
    assert cli.main(["train", str(experiment), "--runs", str(runs), *changes]) == 2
    printed = capsys.readouterr()
    assert "judge.api_key_variable" in printed.err
    assert printed.err.count("\n") == 1
    assert "sesame" not in printed.err + printed.out
    assert not runs.exists()


def test_rejects_a_damaged_cache_before_writing(tmp_path):
    (tmp_path / "replies").write_bytes(b"damaged" * 1000)
    config = rubric_config("http://127.0.0.1:9/v1", cache=str(tmp_path / "replies"))
    with pytest.raises(UserError, match=r"judge\.cache="):
        train(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_repeated_run_is_answered_from_the_cache(tmp_path):
    with JudgeServer(lambda n, r: honest(r)) as server:
        first = train(
            rubric_config(server.url, steps=2, cache=str(tmp_path / "replies")), tmp_path / "a"
        )
        calls = len(server.requests)
        again = train(
            rubric_config(server.url, steps=2, cache=str(tmp_path / "replies")), tmp_path / "b"
        )
        assert len(server.requests) == calls
    assert again["after"] == first["after"]
