"""The configuration: every field is read, and what does not fit is refused in one line."""

import ast
import dataclasses
import json
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import dvaojax
from dvaojax import aggregators, losses
from dvaojax.config import (
    Config,
    aggregator_knobs,
    config_from_json,
    make_aggregator,
    make_shadows,
    overrides,
    validate,
)
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.run import directory as run_directory
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.tasks.rubrics import Rubrics
from dvaojax.train.session import MAY_DIFFER

PACKAGE = Path(dvaojax.__file__).parent


def sections(value):
    """Every dataclass of a configuration."""
    yield value
    for field in dataclasses.fields(value):
        child = getattr(value, field.name)
        if dataclasses.is_dataclass(child):
            yield from sections(child)


def attributes_read():
    """Every name that the package's code reads as an attribute, checks of fields left out."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        checks = [n for n in ast.walk(tree) if getattr(n, "name", None) == "__post_init__"]
        checked = {id(inner) for check in checks for inner in ast.walk(check)}
        for node in ast.walk(tree):
            is_read = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
            if is_read and id(node) not in checked:
                names.add(node.attr)
    return names


def test_every_field_is_read_somewhere_else_than_in_its_own_check():
    """Trap 17: an option that nobody reads."""
    read = attributes_read()
    fields = [(type(s).__name__, f.name) for s in sections(Config()) for f in dataclasses.fields(s)]
    assert len(fields) > 60
    assert [field for field in fields if field[1] not in read] == []
    assert "no_such_field" not in read


def test_every_field_is_documented():
    for section in sections(Config()):
        text = type(section).__doc__.partition("Attributes:")[2]
        documented = set(re.findall(r"^ {8}(\w+): ", text.partition("Raises:")[0], re.MULTILINE))
        assert {field.name for field in dataclasses.fields(section)} == documented


def test_the_defaults_are_the_embedded_task_and_fit_together():
    config = Config()
    validate(config)
    assert config.task == Arithmetic()
    assert config.objectives == ("accuracy", "brevity", "format")
    assert config.num_updates == config.num_steps * config.learning.updates_per_step


def changed(*settings):
    return overrides.apply(Config(), settings)


REFUSED = {
    ("name=",): "name=''",
    ("name=a/b",): "name='a/b'",
    ("name=..",): r"name='\.\.'",
    ("seed=-1",): "seed=-1",
    ("num_steps=0",): "num_steps=0",
    ("prompts_per_step=0",): "prompts_per_step=0",
    ("group_size=0",): "group_size=0",
    ("max_new_tokens=0",): "max_new_tokens=0",
    ("prompts_per_step=12", "learning.mini_batches=5"): (
        "prompts_per_step=12 .*learning.mini_batches=5 x learning.micro_batches=8"
    ),
    ("model.vocab_size=17",): "model.vocab_size=17 is smaller than the 18 tokens",
    ("weights.accuracy=-1",): "weights.accuracy=-1.0",
    ("weights.format=nan",): "weights.format=nan",
    ("weights.format=inf",): "weights.format=inf",
    ("max_skipped_in_a_row=-1",): "max_skipped_in_a_row=-1",
    ("samples_per_step=-1",): "samples_per_step=-1",
    ("aggregator=dvoa",): "'dvoa'; did you mean 'dvao'",
    ("aggregator_options=ddof",): "aggregator_options: 'ddof' is not ddof=<int>",
    ("aggregator_options=ddof=0.5",): "aggregator_options: 'ddof=0.5' is not ddof=<int>",
    ("aggregator_options=ddof=2",): "aggregator=dvao: ddof",
    ("aggregator_options=dof=1",): "dvao has no knob 'dof'; did you mean 'ddof'",
    ("shadows=dvoa",): "^shadows: dvoa: unknown aggregator 'dvoa'; did you mean 'dvao'",
    ("shadows=gdpo,rvpo:sharpnes=1",): "^shadows: rvpo:sharpnes=1: rvpo has no knob 'sharpnes'",
    ("shadows=dvao:ddof=x",): "^shadows: dvao:ddof=x: 'ddof=x' is not ddof=<int>",
    ("shadows=dvao:ddof=2",): "^shadows: dvao:ddof=2: shadow=dvao: ddof",
    ("shadows=gdpo,dvao,gdpo",): "^shadows: gdpo is named twice",
    ("loss.options=clip_low=2",): "loss.options, of clipped_surrogate: .*clip_low=2.0",
    ("allocation.name=neyman", "allocation.floor=9"): (
        "allocation.floor=9 and allocation.cap=12 must enclose group_size=8"
    ),
    ("allocation.name=dynamo", "allocation.cap=7"): "allocation.cap=7 must enclose group_size=8",
    ("allocation.objective=acuracy",): (
        "allocation.objective='acuracy' is unknown; the nearest is 'accuracy'"
    ),
    (
        "allocation.name=dynamo",
        "weights.accuracy=0",
        "weights.brevity=0",
        "weights.format=0",
    ): "allocation.name=dynamo .* all are 0: set allocation.objective",
    # What would bias the policy ratio.
    ("sampling.temperature=0",): "^sampling: .*temperature",
    ("sampling.top_k=5",): "^sampling: .*top_k",
    ("sampling.top_p=0.9",): "^sampling: .*top_p",
    ("sampling.min_p=0.1",): "^sampling: .*min_p",
}


@pytest.mark.parametrize("settings", REFUSED, ids=" ".join)
def test_what_does_not_fit_is_refused_in_one_line_that_names_the_key(settings):
    with pytest.raises(UserError, match=REFUSED[settings]) as error:
        validate(changed(*settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning.epochs=0", "learning.epochs=0"),
        ("evaluation.samples=0", "evaluation.samples=0"),
        ("checkpoints.every=0", "checkpoints.every=0"),
        ("rewards.workers=-1", "rewards.workers=-1"),
        ("rewards.timeout_seconds=1", "rewards.timeout_seconds=1.0 needs rewards.workers"),
        ("rewards.on_error=ignore", "rewards.on_error=ignore"),
        ("warm_start.micro_batches=3", "warm_start.micro_batches=3"),
        ("warm_start.learning_rate=nan", "warm_start.learning_rate=nan"),
        ("loss.name=gpso", "loss.name='gpso' is no loss; did you mean 'gspo'"),
        ("loss.options=clip_lo=2", "loss.options, of clipped_surrogate: .*did you mean 'clip_low'"),
        ("loss.importance_cap=0.5", "loss.importance_cap=0.5"),
        ("optimizer.schedule=cosin", "optimizer.schedule='cosin'"),
        ("task.digits=1", "task.digits=1"),
        ("allocation.name=neymann", "allocation.name='neymann' is no rule; .* 'neyman'"),
        ("allocation.options=alpha=1", "allocation.options: uniform has no knob 'alpha'"),
        ("allocation.memory=1.5", r"allocation.memory=1.5 must lie in \[0, 1\]"),
        ("allocation.refills=-1", "allocation.refills=-1 must not be negative"),
    ],
)
def test_what_can_never_be_is_refused_where_it_is_set(setting, message):
    with pytest.raises(UserError, match=message) as error:
        changed(setting)
    assert "\n" not in str(error.value)


@dataclasses.dataclass(frozen=True)
class Wordless:
    """A task without problems to test on, and without demonstrations."""

    num_test: int = 1
    name = "wordless"
    tokenizer = Arithmetic.tokenizer
    max_prompt_length = 8
    objectives = Arithmetic().objectives

    def prompts(self, split):
        problems = Arithmetic().prompts(split)
        return problems[: self.num_test] if split == "test" else problems


def test_a_task_without_problems_or_demonstrations_is_refused():
    with pytest.raises(UserError, match="wordless has no test problems"):
        validate(dataclasses.replace(Config(), task=Wordless(num_test=0)))
    with pytest.raises(UserError, match=r"^warm_start.num_steps=\d+, but task wordless has no"):
        validate(dataclasses.replace(Config(), task=Wordless()))
    no_warm_start = dataclasses.replace(Config().warm_start, num_steps=0)
    validate(dataclasses.replace(Config(), task=Wordless(), warm_start=no_warm_start))


def test_objectives_and_weights_are_matched_by_name():
    """Trap 14: the order in which weights are written changes nothing."""
    rewards = jax.random.normal(jax.random.key(0), (4, 8, 3))
    made = []
    for weights in ({"accuracy": 3.0, "brevity": 1.0, "format": 0.5},) * 2:
        order = sorted(weights, reverse=bool(made))
        config = dataclasses.replace(Config(), weights={name: weights[name] for name in order})
        update = make_aggregator(config).update
        made.append(update(rewards, None, (), None)[0])
    np.testing.assert_array_equal(*made)
    expected = aggregators.dvao(rewards, np.array([3.0, 1.0, 0.5]))
    np.testing.assert_allclose(made[0], expected, rtol=1e-6)
    with pytest.raises(UserError, match="'brevty'; did you mean 'brevity'"):
        validate(
            dataclasses.replace(
                Config(), weights={"accuracy": 1.0, "brevty": 1.0, "brevity": 1.0, "format": 1.0}
            )
        )
    with pytest.raises(UserError, match="no weight for format"):
        validate(dataclasses.replace(Config(), weights={"accuracy": 1.0, "brevity": 1.0}))


def test_options_reach_the_aggregator_as_the_types_of_its_knobs():
    config = changed("aggregator=rvpo", "aggregator_options=sharpness=2.5,ddof=0,epsilon=1e-3")
    assert aggregator_knobs(config) == {"sharpness": 2.5, "ddof": 0, "epsilon": 1e-3}
    assert type(aggregator_knobs(config)["ddof"]) is int
    rewards = jax.random.normal(jax.random.key(0), (4, 8, 3))
    made, _ = make_aggregator(config).update(rewards, None, (), None)
    expected = aggregators.rvpo(rewards, np.ones(3), sharpness=2.5, ddof=0, epsilon=1e-3)
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    assert not np.allclose(made, aggregators.rvpo(rewards, np.ones(3)))


def test_a_shadow_is_a_name_with_knobs_and_reads_them_as_the_aggregator_does():
    config = changed("shadows=gdpo,rvpo:sharpness=2.5:ddof=0,rvpo")
    made = make_shadows(config)
    assert list(made) == ["gdpo", "rvpo:sharpness=2.5:ddof=0", "rvpo"]
    rewards = jax.random.normal(jax.random.key(0), (4, 8, 3))
    seen, _ = made["rvpo:sharpness=2.5:ddof=0"].update(rewards, None, (), None)
    expected = aggregators.rvpo(rewards, np.ones(3), sharpness=2.5, ddof=0)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert make_shadows(Config()) == {}


def test_an_option_may_be_of_one_objective():
    options = "threshold=0.5,threshold.format=0.9,rate=0.1,threshold.accuracy=-inf"
    config = changed("aggregator=lagrangian", f"aggregator_options={options}")
    assert config.objectives == ("accuracy", "brevity", "format")
    assert aggregator_knobs(config) == {"threshold": (-math.inf, 0.5, 0.9), "rate": 0.1}
    method = make_aggregator(config)
    rewards = jax.numpy.full((2, 4, 3), 0.25)
    _, state = method.update(rewards, None, method.init(3), None)
    np.testing.assert_allclose(state.multipliers, [0.0, 0.025, 0.065], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("lagrangian", "threshold.fromat=1", "threshold.fromat is of an unknown objective"),
        (
            "lagrangian",
            "threshold.format=x",
            "'threshold.format=x' is not threshold.format=<float>",
        ),
        ("lagrangian", "rate.format=1", "lagrangian has no 'rate' for single objectives"),
        ("dvao", "ddof.format=1", "dvao has no 'ddof' for single objectives"),
        ("dvao", "threshold.format=1", "dvao has no 'threshold' for single objectives"),
        ("lagrangian", "rate=-1", "aggregator=lagrangian: rate=-1.0 and most=10.0 must not be"),
        ("hvpo", "upper.brevity=-2", "aggregator=hvpo: every upper="),
        ("rvpo_annealed", "num_steps=1.5", "'num_steps=1.5' is not num_steps=<int>"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_in_one_line(name, option, message):
    config = changed(f"aggregator={name}", f"aggregator_options={option}")
    with pytest.raises(UserError) as error:
        validate(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(aggregators.METHODS))
def test_every_aggregator_can_be_configured_with_each_of_its_knobs(name):
    knobs = aggregators.knobs_of(aggregators.METHODS[name])
    options = ",".join(f"{knob}={value}" for knob, value in knobs.items())
    settings = [f"aggregator={name}", *([f"aggregator_options={options}"] if options else [])]
    config = changed(*settings)
    validate(config)
    assert aggregator_knobs(config) == knobs


def test_what_may_differ_at_a_resume_are_settings_that_change_no_number():
    numbers = {"seed", "aggregator", "num_steps", "optimizer.learning_rate", "sampling.temperature"}
    assert not numbers & set(MAY_DIFFER)
    judged = Config(task=Rubrics(tokenizer=PretrainedTokenizer("owner/name")))
    flat = run_directory.flatten(run_directory.config_to_json(judged))
    assert set(MAY_DIFFER) <= set(flat)


def test_every_loss_can_be_configured_with_each_of_its_knobs():
    for name, loss in losses.BY_NAME.items():
        knobs = losses.knobs_of(loss)
        options = ",".join(f"{knob}={value}" for knob, value in knobs.items())
        config = changed(f"loss.name={name}", f"loss.options={options}")
        assert config.loss.function.keywords == knobs


def test_a_run_recorded_before_losses_had_names_is_read():
    recorded = json.loads(json.dumps(run_directory.config_to_json(changed("loss.kl_weight=0.1"))))
    for name in ("name", "options", "importance_cap"):
        del recorded["loss"][name]
    recorded["loss"] |= {"clip_low": 0.1, "clip_high": 0.3, "reduction": "sequence_mean"}
    for dual_clip, options in ((0.0, ()), (3.0, ("dual_clip=3.0",))):
        recorded["loss"]["dual_clip"] = dual_clip
        loss = config_from_json(recorded).loss
        assert loss.name == "clipped_surrogate"
        assert loss.options == ("clip_low=0.1", "clip_high=0.3", *options)
        assert (loss.reduction, loss.kl_weight) == ("sequence_mean", 0.1)
