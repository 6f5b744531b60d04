"""Published models of a run: one commit, recorded, and loaded before anything is written."""

import hub_server
import published
import pytest
import tokenizer_files
from safetensors.numpy import load_file, save_file

from dvaojax import hub
from dvaojax.cli.policy_source import recorded_config
from dvaojax.config import Config
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import pretrained
from dvaojax.run import directory as run_directory
from dvaojax.tasks.mathematics import Mathematics
from dvaojax.train import train
from dvaojax.train.revisions import with_commits

NAME = "owner/name"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub_server.HubServer().used(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    tokenizer_files.write(path, eos_token="<|im_end|>", template=tokenizer_files.OPENS_THINK)
    published.save(published.make("qwen3 grouped tied", vocab_size=272), path)
    return path


def config_of(path):
    return Config(
        name="mine",
        pretrained=path,
        model=pretrained.model_config(path, compute_dtype="float32"),
        task=Mathematics(tokenizer=PretrainedTokenizer(path)),
        weights={"accuracy": 1.0, "length": 1.0},
        warm_start=WarmStartConfig(num_steps=0),
    )


def test_a_run_keeps_the_commits_of_its_start(server, model, tmp_path):
    run = tmp_path / "mine"
    first = server.push(NAME, model)
    started = with_commits(config_of(NAME), run, start="create")
    assert started.pretrained == started.task.tokenizer.path == f"{NAME}@{first}"
    run_directory.create(run, started)

    # Later the model is published again, with other weights and another tokenizer.
    tokenizer_files.write(model, eos_token="<|endoftext|>", template="other")
    second = server.push(NAME, model)
    hub._commit.cache_clear()
    resumed = with_commits(config_of(NAME), run, start="resume")
    assert resumed == started
    run_directory.resume(run, resumed)
    assert resumed.task.tokenizer.chat([{"role": "user", "content": "x"}]).endswith("<think>\n")
    # `evaluate` and `export` read the recorded configuration.
    recorded = recorded_config(run, None)
    assert recorded.pretrained == recorded.task.tokenizer.path == f"{NAME}@{first}"
    assert pretrained.read_description(recorded.pretrained)["vocab_size"] == 272
    # A new run, and one with another model, do not get the recorded commit.
    anew = with_commits(config_of(NAME), run, start="overwrite")
    assert anew.pretrained == f"{NAME}@{second}"
    other = with_commits(config_of(f"{NAME}@{second}"), run, start="resume")
    with pytest.raises(UserError, match="was started with pretrained='owner/name@"):
        run_directory.resume(run, other)


def test_directories_and_runs_of_earlier_versions_stay_as_they_are(server, model, tmp_path):
    run = tmp_path / "mine"
    config = config_of(str(model))
    assert with_commits(config, run, start="create") == config
    server.push(NAME, model)
    without = config_of(NAME)
    run_directory.create(run, without)
    assert with_commits(without, run, start="resume") == without


def test_weights_that_are_not_finite_stop_a_run_before_anything_is_written(model, tmp_path):
    file = model / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    config = Config(
        name="mine",
        pretrained=str(model),
        model=pretrained.model_config(str(model)),
        learning=LearningConfig(micro_batches=1),
        warm_start=WarmStartConfig(num_steps=0),
    )
    with pytest.raises(UserError, match=r"model.norm.weight has values that are not finite"):
        train(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
