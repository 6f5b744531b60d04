"""The configuration: every field is read, and inconsistent settings are rejected in one line."""

import ast
import dataclasses
import functools
import json
import math
import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import dvaojax
from dvaojax import aggregators, allocation, losses
from dvaojax.cli import method_page
from dvaojax.config import (
    AggregatorConfig,
    Config,
    aggregator_knobs,
    config_from_json,
    make_aggregator,
    make_shadows,
    migrate,
    migrate_settings,
    overrides,
    validate,
)
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError
from dvaojax.learning.policy_loss import make_policy_loss
from dvaojax.run import directory as run_directory
from dvaojax.run.description import config_to_json, flatten
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.tasks.rubrics import Rubrics
from dvaojax.train.allocation_state import make_allocation
from dvaojax.train.session import MAY_DIFFER
from dvaojax.types import Prompt

PACKAGE = Path(dvaojax.__file__).parent


def sections(value):
    """Every dataclass of a configuration."""
    yield value
    for field in dataclasses.fields(value):
        child = getattr(value, field.name)
        if dataclasses.is_dataclass(child):
            yield from sections(child)


def attributes_read():
    """The names of attributes that the code of the package reads, except in checks of fields."""
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


def test_every_field_is_read():
    """Trap 17: an option that has no effect."""
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


def test_defaults_are_the_embedded_task_and_valid():
    config = Config()
    validate(config)
    assert config.task == Arithmetic()
    assert config.objectives == ("accuracy", "brevity", "format")
    assert config.num_updates == config.num_steps * config.learning.updates_per_step


def changed(*settings):
    return overrides.apply(Config(), settings)


REJECTED = {
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
    ("aggregator.options=ddof",): "aggregator.options: 'ddof' is not ddof=<int>",
    ("aggregator.options=ddof=0.5",): "aggregator.options: 'ddof=0.5' is not ddof=<int>",
    ("aggregator.options=ddof=2",): "aggregator.name=dvao: ddof",
    ("aggregator.options=dof=1",): "dvao has no knob 'dof'; did you mean 'ddof'",
    (
        "aggregator.shadows=dvoa",
    ): "^aggregator.shadows: dvoa: unknown aggregator 'dvoa'; did you mean 'dvao'",
    ("aggregator.shadows=gdpo,rvpo:sharpnes=1",): (
        "^aggregator.shadows: rvpo:sharpnes=1: rvpo has no knob 'sharpnes'"
    ),
    ("aggregator.shadows=dvao:ddof=x",): (
        "^aggregator.shadows: dvao:ddof=x: 'ddof=x' is not ddof=<int>"
    ),
    ("aggregator.shadows=dvao:ddof=2",): "^aggregator.shadows: dvao:ddof=2: ddof",
    ("aggregator.shadows=gdpo,dvao,gdpo",): "^aggregator.shadows: gdpo is named twice",
    ("loss.options=clip_low=2",): "loss.options, of clipped_surrogate: .*clip_low=2.0",
    ("allocation.name=neyman", "allocation.floor=9"): (
        "allocation.floor=9 and allocation.cap=12 must enclose group_size=8"
    ),
    ("allocation.name=dynamo", "allocation.cap=7"): "allocation.cap=7 must enclose group_size=8",
    ("allocation.objective=acuracy",): (
        "allocation.objective: unknown 'acuracy'; did you mean 'accuracy'"
    ),
    (
        "allocation.name=dynamo",
        "weights.accuracy=0",
        "weights.brevity=0",
        "weights.format=0",
    ): "^weights=.*: at least one must be above 0",
    # Truncation biases the policy ratio.
    ("sampling.temperature=0",): "^sampling: .*temperature",
    ("sampling.top_k=5",): "^sampling: .*top_k",
    ("sampling.top_p=0.9",): "^sampling: .*top_p",
    ("sampling.min_p=0.1",): "^sampling: .*min_p",
    ("rewards.timeout_seconds=1",): r"^rewards\.timeout_seconds=1\.0 needs rewards\.workers",
}


@pytest.mark.parametrize("settings", REJECTED, ids=" ".join)
def test_rejects_inconsistent_settings_in_one_line_with_the_key(settings):
    with pytest.raises(UserError, match=REJECTED[settings]) as error:
        validate(changed(*settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning.epochs=0", "learning.epochs=0"),
        ("learning.gradient_cosines=-1", "learning.gradient_cosines=-1 must be at least 0"),
        ("evaluation.samples=0", "evaluation.samples=0"),
        ("checkpoints.every=0", "checkpoints.every=0"),
        ("rewards.workers=-1", "rewards.workers=-1"),
        ("rewards.concurrency=0", "rewards.concurrency=0 must be at least 1"),
        ("rewards.on_error=ignore", "rewards.on_error=ignore"),
        ("warm_start.micro_batches=3", "warm_start.micro_batches=3"),
        ("warm_start.learning_rate=nan", "warm_start.learning_rate=nan"),
        ("loss.name=gpso", "loss.name: unknown loss 'gpso'; did you mean 'gspo'"),
        (
            "loss.options=clip_lo=2",
            "loss.options: clipped_surrogate has no knob .*did you mean 'clip_low'",
        ),
        ("loss.options=clip_low=x", "loss.options: 'clip_low=x' is not clip_low=<float>"),
        ("loss.options=clip_low.format=1", "clipped_surrogate: knob 'clip_low' has one value"),
        ("loss.reduction=mean", "loss.reduction: unknown 'mean'; did you mean 'token_mean'"),
        ("loss.kl_estimator=k4", "loss.kl_estimator: unknown 'k4'"),
        ("loss.importance_cap=0.5", "loss.importance_cap=0.5"),
        ("optimizer.schedule=cosin", "optimizer.schedule='cosin'"),
        ("task.digits=1", "task.digits=1"),
        (
            "allocation.name=neymann",
            "allocation.name: unknown allocation rule 'neymann'; .*'neyman'",
        ),
        ("allocation.options=alpha=1", "allocation.options: uniform has no knob 'alpha'"),
        ("allocation.memory=1.5", r"allocation.memory=1.5 must lie in \[0, 1\]"),
        ("allocation.refills=-1", "allocation.refills=-1 must not be negative"),
    ],
)
def test_sections_reject_invalid_values(setting, message):
    with pytest.raises(UserError, match=message) as error:
        changed(setting)
    assert "\n" not in str(error.value)


@dataclasses.dataclass(frozen=True)
class Wordless:
    """A task without test problems, or without demonstrations."""

    num_test: int = 1
    name = "wordless"
    tokenizer = Arithmetic.tokenizer
    max_prompt_length = 8
    objectives = Arithmetic().objectives

    def prompts(self, split):
        problems = Arithmetic().prompts(split)
        return problems[: self.num_test] if split == "test" else problems


def test_rejects_a_task_without_problems_or_demonstrations():
    with pytest.raises(UserError, match="wordless has no test problems"):
        validate(dataclasses.replace(Config(), task=Wordless(num_test=0)))
    with pytest.raises(UserError, match=r"^warm_start.num_steps=\d+, but task wordless has no"):
        validate(dataclasses.replace(Config(), task=Wordless()))
    no_warm_start = dataclasses.replace(Config().warm_start, num_steps=0)
    validate(dataclasses.replace(Config(), task=Wordless(), warm_start=no_warm_start))


class Brief(Wordless):
    """A task with one objective."""

    objectives = {"brevity": Arithmetic().objectives["brevity"]}  # noqa: RUF012


def test_rejects_cosines_between_the_gradients_of_one_objective():
    learning = dataclasses.replace(Config().learning, gradient_cosines=5)
    no_warm_start = dataclasses.replace(Config().warm_start, num_steps=0)
    config = dataclasses.replace(Config(), learning=learning, warm_start=no_warm_start)
    validate(config)
    one = dataclasses.replace(config, task=Brief(), weights={"brevity": 1.0})
    with pytest.raises(UserError, match=r"^learning\.gradient_cosines=5 .*brevity is the only one"):
        validate(one)


def test_objectives_and_weights_are_matched_by_name():
    """Trap 14: the order of the weights has no effect."""
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


def test_options_have_the_types_of_the_knobs():
    config = changed("aggregator=rvpo", "aggregator.options=sharpness=2.5,ddof=0,epsilon=1e-3")
    assert aggregator_knobs(config) == {"sharpness": 2.5, "ddof": 0, "epsilon": 1e-3}
    assert type(aggregator_knobs(config)["ddof"]) is int
    rewards = jax.random.normal(jax.random.key(0), (4, 8, 3))
    made, _ = make_aggregator(config).update(rewards, None, (), None)
    expected = aggregators.rvpo(rewards, np.ones(3), sharpness=2.5, ddof=0, epsilon=1e-3)
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    assert not np.allclose(made, aggregators.rvpo(rewards, np.ones(3)))


def test_shadow_is_a_name_with_knobs():
    config = changed("aggregator.shadows=gdpo,rvpo:sharpness=2.5:ddof=0,rvpo")
    made = make_shadows(config)
    assert list(made) == ["gdpo", "rvpo:sharpness=2.5:ddof=0", "rvpo"]
    rewards = jax.random.normal(jax.random.key(0), (4, 8, 3))
    advantages, _ = made["rvpo:sharpness=2.5:ddof=0"].update(rewards, None, (), None)
    expected = aggregators.rvpo(rewards, np.ones(3), sharpness=2.5, ddof=0)
    np.testing.assert_allclose(advantages, expected, rtol=1e-6)
    assert make_shadows(Config()) == {}


def test_option_for_one_objective():
    options = "threshold=0.5,threshold.format=0.9,rate=0.1,threshold.accuracy=-inf"
    config = changed("aggregator=lagrangian", f"aggregator.options={options}")
    assert config.objectives == ("accuracy", "brevity", "format")
    assert aggregator_knobs(config) == {"threshold": (-math.inf, 0.5, 0.9), "rate": 0.1}
    method = make_aggregator(config)
    rewards = jax.numpy.full((2, 4, 3), 0.25)
    _, state = method.update(rewards, None, method.init(3), None)
    np.testing.assert_allclose(state.multipliers, [0.0, 0.025, 0.065], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        (
            "lagrangian",
            "threshold.fromat=1",
            "threshold.fromat: unknown objective 'fromat'",
        ),
        (
            "lagrangian",
            "threshold.format=x",
            "'threshold.format=x' is not threshold.format=<float>",
        ),
        ("lagrangian", "rate.format=1", "lagrangian: knob 'rate' has one value for all objectives"),
        ("dvao", "ddof.format=1", "dvao: knob 'ddof' has one value for all objectives"),
        ("dvao", "threshold.format=1", "dvao has no knob 'threshold'"),
        (
            "lagrangian",
            "rate=-1",
            "aggregator.name=lagrangian: rate=-1.0 and most=10.0 must not be",
        ),
        ("hvpo", "upper.brevity=-2", "aggregator.name=hvpo: every upper="),
        ("rvpo_annealed", "num_steps=1.5", "'num_steps=1.5' is not num_steps=<int>"),
    ],
)
def test_rejects_invalid_options_in_one_line(name, option, message):
    config = changed(f"aggregator={name}", f"aggregator.options={option}")
    with pytest.raises(UserError) as error:
        validate(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def by_its_page(name, options="", kind=0):
    """The configuration of a method as its page selects it, with these options if any."""
    command = method_page.find(name)[kind].use.split()
    assert command[:3] == ["dvaojax", "train", "--set"]
    settings = [word for word in command[3:] if not (options and ".options=" in word)]
    return changed(*settings, *([options] if options else []))


def options_of(knobs, key):
    return f"{key}={','.join(f'{knob}={value}' for knob, value in knobs.items())}" if knobs else ""


@pytest.mark.parametrize("name", sorted(aggregators.METHODS))
def test_every_aggregator_is_selected_as_its_page_says_with_every_knob(name):
    knobs = aggregators.knobs_of(aggregators.METHODS[name])
    config = by_its_page(name, options_of(knobs, "aggregator.options"))
    validate(config)
    assert config.aggregator.name == name
    assert aggregator_knobs(config) == knobs


def test_every_row_of_the_other_tables_is_selected_as_its_page_says():
    """Losses, pairs, masks and allocation rules; the functions of turns wait for episodes."""
    for name in losses.ROWS:
        config = by_its_page(name)
        config.loss.check_options()
        make_policy_loss(config.loss, model=config.model, temperature=1.0, max_new_tokens=8)
        assert config.loss.name == name
    assert by_its_page("dpo").loss.is_pairwise
    assert by_its_page("capo").loss.capo.is_used
    for name, rule in allocation.BY_NAME.items():
        knobs = allocation.knobs_of(rule)
        config = by_its_page(name, options_of(knobs, "allocation.options"), kind=-1)
        validate(config)
        make_allocation(config)
        assert config.allocation.name == name
    assert {*losses.OTHERS} == {"dpo", "capo"}
    waiting = {n for n, row in aggregators.OTHER_FUNCTIONS.items() if "episodes" in row.use}
    assert waiting == {"ms_grpo", "gtpo"}
    assert {*aggregators.OTHER_FUNCTIONS} - waiting == {"dro_of_checks"}  # see `test_dro`


def test_settings_that_may_differ_on_a_resume_do_not_change_numbers():
    numbers = {
        "seed",
        "aggregator.name",
        "num_steps",
        "optimizer.learning_rate",
        "sampling.temperature",
    }
    assert not numbers & set(MAY_DIFFER)
    task = Rubrics(tokenizer=PretrainedTokenizer("owner/name"))
    judged = Config(task=task, model=Config().model)
    flat = flatten(config_to_json(judged))
    assert set(MAY_DIFFER) <= set(flat)


def test_every_knob_of_every_loss_can_be_set():
    for name, loss in losses.BY_NAME.items():
        knobs = losses.knobs_of(loss)
        options = ",".join(f"{knob}={value}" for knob, value in knobs.items())
        config = changed(f"loss.name={name}", f"loss.options={options}")
        assert config.loss.function.keywords == knobs


def test_reads_a_run_recorded_before_losses_had_names():
    recorded = json.loads(json.dumps(config_to_json(changed("loss.kl_weight=0.1"))))
    for name in ("name", "options", "importance_cap"):
        del recorded["loss"][name]
    recorded["loss"] |= {"clip_low": 0.1, "clip_high": 0.3, "reduction": "sequence_mean"}
    for dual_clip, options in ((0.0, ()), (3.0, ("dual_clip=3.0",))):
        recorded["loss"]["dual_clip"] = dual_clip
        loss = config_from_json(recorded).loss
        assert loss.name == "clipped_surrogate"
        assert loss.options == ("clip_low=0.1", "clip_high=0.3", *options)
        assert (loss.reduction, loss.kl_weight) == ("sequence_mean", 0.1)


def recorded_before_the_section(**changes):
    """A configuration as it was recorded before the aggregator was a section."""
    recorded = json.loads(json.dumps(config_to_json(Config())))
    del recorded["aggregator"]
    return {
        **recorded,
        "aggregator": "rvpo",
        "aggregator_options": ["sharpness=2.5"],
        "shadows": ["gdpo", "dvao:ddof=1"],
        "check_invariants": True,
        **changes,
    }


def test_reads_a_run_recorded_before_the_aggregator_was_a_section():
    config = config_from_json(recorded_before_the_section())
    aggregator = AggregatorConfig("rvpo", ("sharpness=2.5",), ("gdpo", "dvao:ddof=1"), True)
    assert config == dataclasses.replace(Config(), aggregator=aggregator)


def test_reads_a_run_recorded_before_problems_were_chosen():
    recorded = json.loads(json.dumps(config_to_json(Config())))
    del recorded["allocation"]["selection"]
    del recorded["learning"]["gradient_cosines"]
    assert config_from_json(recorded) == Config()


def test_resumes_a_run_recorded_before_the_aggregator_was_a_section(tmp_path):
    path = tmp_path / "run"
    run_directory.create(path, Config())
    description = json.loads((path / "config.json").read_text())
    description["config"] = recorded_before_the_section()
    (path / "config.json").write_text(json.dumps(description))
    settings = ["aggregator=rvpo", "aggregator.options=sharpness=2.5"]
    shadows = "aggregator.shadows=gdpo,dvao:ddof=1"
    resume = functools.partial(run_directory.resume, may_differ=MAY_DIFFER, migrate=migrate)
    with pytest.raises(UserError, match=r"with aggregator\.shadows="):
        resume(path, changed(*settings))
    resume(path, changed(*settings, shadows))  # check_invariants may differ
    recorded = run_directory.read_config(path)
    assert config_from_json(recorded) == changed(*settings, shadows)
    assert migrate(recorded) == recorded


def test_migration_leaves_anything_else_as_it_is():
    for value in (None, [], "x", {}, {"loss": 3}, {"aggregator": ["dvao"]}):
        assert migrate(value) == value
    settings = ["aggregator=dvao", "aggregator_options=ddof=1", "shadows=", "weights.a=1"]
    assert migrate_settings(settings) == [
        *("aggregator=dvao", "aggregator.options=ddof=1", "aggregator.shadows=", "weights.a=1")
    ]


def test_sections_with_a_name_have_a_short_form():
    config = changed("aggregator=rvpo", "loss=gspo", "allocation=neyman")
    names = (config.aggregator.name, config.loss.name, config.allocation.name)
    assert names == ("rvpo", "gspo", "neyman")
    assert changed("aggregator=rvpo", "aggregator.name=gdpo").aggregator.name == "gdpo"
    assert changed("aggregator.name=gdpo", "aggregator=rvpo").aggregator.name == "rvpo"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("aggregator_options=ddof=1", "aggregator_options is now aggregator.options"),
        ("shadows=gdpo", "shadows is now aggregator.shadows"),
        ("check_invariants=true", "check_invariants is now aggregator.check_invariants"),
    ],
)
def test_keys_of_earlier_versions_are_rejected_with_the_new_key(setting, message):
    with pytest.raises(UserError) as error:
        changed(setting)
    assert str(error.value) == message


class HalfATask:
    name = "half"
    objectives = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Odd(Arithmetic):
    """The embedded task with other prompts or objectives."""

    given: object = None
    functions: object = None

    @property
    def objectives(self):
        return self.functions or super().objectives

    def prompts(self, split):
        return self.given


FUNCTIONS = {"accuracy": len, "brevity": "short", "format": len}
# Mistakes of experiment files, and the beginnings of the answers.
MISTAKES = [
    ({"weights": [1.0, 0.5, 2.0]}, "weights=[1.0, 0.5, 2.0] is a list: write weights={'accuracy'"),
    ({"weights": (1.0,)}, "weights=(1.0,) is a list: write weights={'accuracy': 1.0, 'brevity'"),
    ({"weights": 3}, "weights=3 is of type int, not Mapping[str, float]"),
    ({"weights": {"accuracy": "1"}}, "weights.accuracy='1' is of type str, not float"),
    ({"num_steps": "3"}, "num_steps='3' is of type str, not int"),
    ({"num_steps": 2.5}, "num_steps=2.5 is of type float, not int"),
    ({"num_steps": np.int64(3)}, "num_steps=np.int64(3) is of type int64, not int"),
    ({"weights": {"accuracy": 0.0, "brevity": 0, "format": 0}}, "weights={'accuracy': 0.0,"),
    ({"seed": 2**32}, "seed=4294967296 must be below 2**32"),
    ({"seed": True}, "seed=True is of type bool, not int"),
    ({"pretrained": None}, "pretrained=None is of type NoneType, not str"),
    ({"name": Path("x")}, "name=PosixPath('x') is of type PosixPath, not str"),
    ({"learning": {}}, "learning={} is of type dict, not a section: write LearningConfig(...)"),
    ({"optimizer": 1e-3}, "optimizer=0.001 is of type float, not a section: write OptimizerCon"),
    ({"aggregator": "gdpo"}, "aggregator='gdpo' is of type str, not a section: write Aggregator"),
    (
        {"aggregator": AggregatorConfig(options="ddof=1")},
        "aggregator.options='ddof=1' is of type str, not tuple[str, ...]",
    ),
    (
        {"aggregator": AggregatorConfig(shadows=("gdpo", 1))},
        "aggregator.shadows[1]=1 is of type int, not str",
    ),
    (
        {"task": Arithmetic},
        "task=<class 'dvaojax.tasks.arithmetic.Arithmetic'> is a class, not an instance: write "
        "Arithmetic()",
    ),
    ({"task": "arithmetic"}, "task='arithmetic' is of type str, not a task: it lacks"),
    ({"task": Odd(functions=FUNCTIONS)}, "task: the objective brevity is 'short', not a function"),
    ({"task": Odd(given=iter([]))}, "task: prompts('train') returned a list_iterator: make it a"),
    ({"task": Odd(given=[])}, "task: arithmetic has no train problems"),
    ({"task": Odd(given=["1+1"])}, "task: prompts('train') contains a str, not a Prompt"),
    ({"task": Odd(given=[Prompt(b"1", "2", 0)])}, "task: the text of prompt 0 is a bytes"),
]


def test_values_of_other_types_are_refused_by_their_key():
    for changes, message in MISTAKES:
        with pytest.raises(UserError) as error:
            validate(dataclasses.replace(Config(), **changes))
        assert str(error.value).startswith(message)
    with pytest.raises(UserError, match=r"it lacks max_prompt_length, prompts, tokenizer$"):
        validate(dataclasses.replace(Config(), task=HalfATask()))
