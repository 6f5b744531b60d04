"""Runs that start from published weights, and exported checkpoints."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from unittest import mock

import chex
import jax
import numpy as np
import published
import pytest
import tokenizer_files
import torch
import transformers
from decoder_oracle import random_groups

from dvaojax import cli, files, models, sharding
from dvaojax.config import overrides
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.models import pretrained
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.sharding import MeshConfig

pytestmark = pytest.mark.slow

EXPERIMENT = '''
import dataclasses

from dvaojax.config import Config, EvaluationConfig
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.pretrained import model_config
from dvaojax.rewards.length import within_budget
from dvaojax.types import Prompt

PATH = {path!r}


def even(completion, reference):
    """Whether the number of characters is even."""
    return float(len(completion.text) % 2 == 0)


def brief(completion, reference):
    return within_budget(completion, reference, budget=3)


@dataclasses.dataclass(frozen=True)
class Chat:
    tokenizer: PretrainedTokenizer = PretrainedTokenizer(PATH)

    name = "chat"
    max_prompt_length = 128

    @property
    def objectives(self):
        return {{"even": even, "brief": brief}}

    def prompts(self, split):
        texts = [self.tokenizer.chat([{{"role": "user", "content": word}}]) for word in "abcdefgh"]
        return [Prompt(text, None, i) for i, text in enumerate(texts)]


def get_config():
    return Config(
        name="chat",
        task=Chat(),
        weights={{"even": 1.0, "brief": 0.5}},
        pretrained=PATH,
        model=model_config(PATH, compute_dtype="float32", remat="none"),
        num_steps=2,
        prompts_per_step=8,
        group_size=2,
        max_new_tokens=6,
        rollout_stages=1,
        loss=LossConfig(kl_weight=0.1),
        learning=LearningConfig(),
        warm_start=WarmStartConfig(num_steps=0, batch_size=8),
        evaluation=EvaluationConfig(num_prompts=8),
    )


def get_smoke_config():
    return dataclasses.replace(get_config(), pretrained="")
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a published model, an experiment that starts from it, and its run."""
    place = tmp_path_factory.mktemp("export")
    model = published.make("qwen3 grouped tied", vocab_size=272, bos_token_id=5, eos_token_id=6)
    path = published.save(model, place / "model", max_shard_size="20KB")
    tokenizer_files.write(
        Path(path),
        template=tokenizer_files.QWEN2_5,
        generation={"eos_token_id": 257, "temperature": 0.6},
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    (place / "mine.py").write_text(EXPERIMENT.format(path=path))
    assert cli.main(train(place, place / "runs")) == 0
    return place


def train(place, runs):
    """The command, on eight devices with weights sharded over two."""
    command = ["train", f"{place}/mine.py", "--runs", f"{runs}"]
    return [*command, "--set", "mesh.fsdp=2"]


def saved(place, part, step):
    """A part of the run's checkpoint with the structure of the decoder's parameters."""
    config = overrides.load_experiment(place / "mine.py").model
    template = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
    for name in reversed(part.split("/")):
        template = {name: template}
    checkpoints = SavedCheckpoints(place / "runs/chat/checkpoints")
    restored = checkpoints.restore_part(template, step=step)
    for name in part.split("/"):
        restored = restored[name]
    return restored


def export(place, *arguments):
    return cli.main(
        ["export", f"{place}/runs/chat", *arguments, "--experiment", f"{place}/mine.py"]
    )


@pytest.fixture(scope="module")
def exported(place):
    """The newest checkpoint as a published model, and the printed line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert export(place, str(place / "exported")) == 0
    return place / "exported", printed.getvalue()


def test_policy_and_reference_start_from_the_published_weights(place):
    path = str(place / "model")
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    expected = pretrained.load(path, pretrained.model_config(path), mesh=mesh)
    first = saved(place, "state/learner/params", 0)
    chex.assert_trees_all_equal(first, expected)
    chex.assert_trees_all_equal(saved(place, "reference", 2), expected)
    last = saved(place, "state/learner/params", 2)
    assert np.any(np.asarray(last["embedding"]) != expected["embedding"])
    recorded = files.read_json(place / "runs/chat/config.json")["config"]
    assert recorded["pretrained"] == path
    assert recorded["task"]["tokenizer"]["path"] == path


def test_transformers_computes_the_same_logits_from_the_export(place, exported):
    out, printed = exported
    assert "step 2: " in printed
    assert "parameters in float32, 1 file, with its tokenizer" in printed
    params = saved(place, "state/learner/params", 2)
    config = overrides.load_experiment(place / "mine.py").model
    groups = random_groups(config, lengths=[9, 2], width=9, group_size=2, completion_length=5)
    decoder = models.apply(config, params)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    np.testing.assert_allclose(
        decoder.logits(decoder(*groups)),
        published.logits_of_completions(theirs, groups),
        atol=1e-4,
    )
    # The description is the published one, and the tokenizer files are copies.
    before, after = (json.loads(Path(d, "config.json").read_text()) for d in (place / "model", out))
    assert {**after, "torch_dtype": ...} == {**before, "torch_dtype": ...}
    messages = [{"role": "user", "content": "ab"}]
    original = PretrainedTokenizer(str(place / "model"))
    copied = transformers.AutoTokenizer.from_pretrained(out)
    assert copied.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    ) == original.chat(messages)
    assert copied.encode("abc", add_special_tokens=False) == original.encode("abc")
    assert PretrainedTokenizer(str(out)).stop_tokens == original.stop_tokens
    generation = transformers.GenerationConfig.from_pretrained(out)
    assert generation.eos_token_id == list(original.stop_tokens)
    assert (generation.pad_token_id, generation.temperature) == (original.pad_token, 0.6)


def test_earlier_checkpoint_in_bfloat16(place, tmp_path):
    assert export(place, str(tmp_path / "out"), "--step", "0", "--dtype", "bfloat16") == 0
    exported = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    start = transformers.AutoModelForCausalLM.from_pretrained(place / "model")
    assert exported.dtype == torch.bfloat16
    for name, weights in start.named_parameters():
        assert torch.equal(exported.get_parameter(name), weights.bfloat16()), name


def test_exported_model_can_be_loaded_as_a_published_one(place, exported):
    out = str(exported[0])
    config = pretrained.model_config(out)
    assert config == pretrained.model_config(str(place / "model"))
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    chex.assert_trees_all_equal(
        pretrained.load(out, config, mesh=mesh), saved(place, "state/learner/params", 2)
    )


def test_export_overwrites_nothing_and_leaves_no_partial_directory(place, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("text")
    assert export(place, str(mine)) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err
    assert [file.name for file in mine.iterdir()] == ["letter.txt"]
    assert export(place, str(tmp_path / "new"), "--step", "1") == 2
    assert "there is no checkpoint of step 1" in capsys.readouterr().err
    with mock.patch.object(PretrainedTokenizer, "write", side_effect=OSError("disk full")):
        assert export(place, str(tmp_path / "new")) != 0
    assert "disk full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_the_published_model_a_run_resumes_but_does_not_start(place, tmp_path, capsys):
    moved = place / "moved"
    shutil.copytree(place / "runs", tmp_path / "runs")
    # Only the weights are moved; the task needs the tokenizer.
    weights = [*(place / "model").glob("*.safetensors"), *(place / "model").glob("*.index.json")]
    moved.mkdir()
    try:
        for file in weights:
            file.rename(moved / file.name)
        assert cli.main([*train(place, tmp_path / "runs"), "--resume"]) == 0
        assert cli.main([*train(place, tmp_path / "runs"), "name=new"]) == 2
        assert "has neither model.safetensors nor" in capsys.readouterr().err
        assert not (tmp_path / "runs/new").exists()
    finally:
        for file in weights:
            (moved / file.name).rename(file)


def test_rejects_model_setting_that_differs_from_the_checkpoint(place, tmp_path, capsys):
    assert cli.main([*train(place, tmp_path / "runs"), "model.rope_theta=7.0"]) == 2
    assert "model.rope_theta=7.0, but config.json of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_export_of_a_run_from_random_weights(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = ["num_steps=1", "prompts_per_step=8", "group_size=2", "max_new_tokens=8"]
    tiny += ["learning.micro_batches=1", "model.width=16", "model.num_layers=1"]
    tiny += ["evaluation.num_prompts=8", "warm_start.num_steps=0", "warm_start.batch_size=8"]
    tiny += ["warm_start.micro_batches=1"]
    assert cli.main(["train", "--set", *tiny]) == 0
    assert cli.main(["export", "runs/arithmetic", "out"]) == 0
    assert "without a tokenizer: CharacterTokenizer has no files" in capsys.readouterr().out
    theirs = transformers.AutoModelForCausalLM.from_pretrained("out")
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert theirs.config.max_position_embeddings == 8 + 8
    assert theirs.config.eos_token_id == [1]
    assert theirs.get_input_embeddings().weight.shape == (18, 16)
