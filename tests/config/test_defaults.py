"""Defaults of a run: those of the built-in task belong to it, published weights have their own."""

import dataclasses
from typing import ClassVar

import pytest
from digits_run import Digits

from dvaojax.config import AggregatorConfig, Config, overrides, validate
from dvaojax.errors import UserError
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.models.presets import PRESETS
from dvaojax.tasks.arithmetic import Arithmetic

BUILT_IN = """
name=arithmetic
weights.accuracy=1.0
weights.brevity=1.0
weights.format=1.0
num_steps=120
prompts_per_step=32
group_size=8
max_new_tokens=48
model.vocab_size=18
model.width=128
model.num_layers=2
model.num_heads=4
model.num_kv_heads=2
model.head_width=32
model.ff_width=384
model.rope_theta=10000.0
learning.mini_batches=1
learning.micro_batches=8
optimizer.learning_rate=0.001
optimizer.schedule=linear
optimizer.final_fraction=0.1
optimizer.warmup_updates=0
warm_start.num_steps=300
warm_start.batch_size=128
warm_start.micro_batches=8
warm_start.learning_rate=0.004
"""


def test_settings_of_the_built_in_run_are_fixed():
    """Its numbers are published, so a change of a default must not change them."""
    settings = overrides.settings(Config())
    assert [line for line in BUILT_IN.split() if line not in settings] == []
    assert Config(task=Arithmetic()) == Config()


def test_another_task_does_not_inherit_settings_of_the_built_in_one():
    config = Config(task=Digits())
    assert config.name == "digits"
    assert config.weights == {"digits": 1.0, "largest": 1.0, "brevity": 1.0}
    assert config.warm_start == WarmStartConfig()
    assert config.warm_start.num_steps == 0
    assert config.optimizer == OptimizerConfig()
    assert config.learning == LearningConfig()
    assert config.max_new_tokens == 256
    assert config.model.vocab_size == Digits.tokenizer.vocab_size
    validate(config)


def test_variants_of_the_built_in_task_keep_its_settings():
    class Longer(Arithmetic):
        run_defaults: ClassVar = {**Arithmetic.run_defaults, "max_new_tokens": 64}

    config = Config(task=Longer(digits=4))
    assert config.max_new_tokens == 64
    assert config.optimizer == Config().optimizer


def test_published_weights_start_gently_and_without_demonstrations():
    for task in (Digits(), Arithmetic()):
        config = Config(task=task, pretrained="owner/name", model=PRESETS["tiny"])
        assert config.optimizer.learning_rate == 1e-6
        assert config.optimizer.warmup_updates == 10
        assert config.warm_start.num_steps == 0
        assert set(config.weights.values()) == {1.0}
        faster = overrides.apply(config, ["optimizer.learning_rate=1e-5"])
        assert faster.optimizer == dataclasses.replace(config.optimizer, learning_rate=1e-5)


def test_any_number_of_prompts_can_be_a_step_of_published_weights():
    for prompts in (1, 2, 3, 7, 12):
        config = Config(
            task=Digits(), pretrained="owner/name", model=PRESETS["tiny"], prompts_per_step=prompts
        )
        validate(config)


def test_published_weights_need_the_shape_of_their_decoder():
    with pytest.raises(ValueError, match=r"model is not given: .*model_config\('owner/name'\)"):
        Config(task=Digits(), pretrained="owner/name")


def test_values_that_are_given_are_kept():
    sections = {
        "model": ModelConfig(16, 8, 1, 1, 1, 8, 8),
        "learning": LearningConfig(epochs=3),
        "optimizer": OptimizerConfig(learning_rate=0.5),
        "warm_start": WarmStartConfig(num_steps=7),
        "weights": {"digits": 2.0},
        "max_new_tokens": 3,
        "name": "mine",
    }
    for pretrained in ("", "owner/name"):
        config = Config(task=Digits(), pretrained=pretrained, **sections)
        assert {name: getattr(config, name) for name in sections} == sections


def test_a_task_recommends_settings_and_a_misspelt_one_is_named():
    class Recommending(Digits):
        run_defaults: ClassVar = {"optimizer": {"learning_rate": 0.25}, "max_new_tokens": 5}

    class Misspelt(Digits):
        run_defaults: ClassVar = {"optimiser": {"learning_rate": 0.25}}

    config = Config(task=Recommending())
    assert config.optimizer == OptimizerConfig(learning_rate=0.25)
    assert config.max_new_tokens == 5
    with pytest.raises(ValueError, match="'optimiser'; did you mean 'optimizer'"):
        Config(task=Misspelt())


FILE = """
import dataclasses
from digits_run import Digits
from dvaojax.config import Config
from dvaojax.learning.warm_start import WarmStartConfig

def get_config():
    return Config(
        task=Digits(),
        weights={"digits": 1.0, "largest": 1.0, "brevity": 0.5},
        model=dataclasses.replace(Config().model, vocab_size=16),
        learning=dataclasses.replace(Config().learning, micro_batches=1),
        evaluation=dataclasses.replace(Config().evaluation, num_prompts=4),
    )
"""


def test_experiment_files_may_still_take_parts_of_the_built_in_run(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    config = overrides.load_experiment(tmp_path / "mine.py")
    validate(config)
    assert config.model.width == 128
    assert config.evaluation.num_prompts == 4


def single(name, options=()):
    aggregator = AggregatorConfig(name, options)
    return Config(task=Digits(), group_size=1, aggregator=aggregator)


def test_one_completion_per_prompt_is_refused_where_completions_are_compared(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "def centred(rewards, weights, *, mask=None):\n"
        "    total = (rewards * weights[None, None]).sum(-1)\n"
        "    return total - total.mean(1, keepdims=True)\n\n\n"
        "def plain(rewards, weights, *, mask=None):\n"
        "    return (rewards * weights[None, None]).sum(-1)\n"
    )
    for name in ("dvao", "rloo", f"{plugin}:centred"):
        with pytest.raises(UserError, match=r"group_size=1: .* set group_size to at least 2"):
            validate(single(name))
    for name in ("reinforce_plus_plus", f"{plugin}:plain"):
        validate(single(name))
