"""Training and evaluation of the cells of a sweep; they share compiled programs and warm starts.

A cell takes the same steps with the same random keys as a run of `dvaojax train`, but writes no
checkpoints, metrics or plots. It takes seconds, and a kill loses only the current cell.

Cells are not batched into one program, because that is not faster on a CPU: with the decoder of the
shoot-out, one core samples 8 groups in 6 ms and 40 in 26 ms, and updates on 8 groups in 17 ms and
on 40 in 143 ms.
"""

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import jax
import numpy as np
from rich.console import Console

from dvaojax import aggregators
from dvaojax.config import Config, aggregator_knobs
from dvaojax.evaluation.directory import digest
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.models import Params
from dvaojax.run.description import config_to_json
from dvaojax.run.display import Display
from dvaojax.sweep.grid import Cell, Sweep, cell_at, representative_keys
from dvaojax.sweep.switch_aggregator import UnweightedMethod, switch_aggregator, switch_state
from dvaojax.train.allocation_state import initial_data_state
from dvaojax.train.evaluator import evaluate_policy, evaluator_of
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.loop import make_collector
from dvaojax.train.program import Program, make_program
from dvaojax.train.scoring import make_scorer
from dvaojax.train.selection import make_selector
from dvaojax.train.warm_start import demonstrations, run_warm_start
from dvaojax.types import Scorer

Means = Mapping[str, float]


class CellOutcome(NamedTuple):
    """Result of a cell.

    Attributes:
        before: objective -> mean reward on the held-out problems before the first step, and
            `length` in tokens.
        after: the same after the last step.
        during: objective -> mean reward of the training completions, over all steps.
        seconds: time for training and evaluation, without the start that cells share.
    """

    before: Means
    after: Means
    during: Means
    seconds: float


class _SharedStart(NamedTuple):
    """Start that the cells of one situation and seed share.

    Attributes:
        key: identifies the start.
        params: after the warm start.
        before: their evaluation.
    """

    key: str
    params: Params
    before: Means


class CellRunner:
    """Trains and evaluates cells.

    A context manager, because the scorer of a situation may hold resources.
    """

    def __init__(self, sweep: Sweep):
        """Collects the methods of the sweep; nothing is compiled yet."""
        methods = [_method(cell_at(sweep, key).config) for key in representative_keys(sweep)]
        self._methods = [m for i, m in enumerate(methods) if m not in methods[:i]]
        self._programs: dict[str, Program] = {}
        self._warm_starts: dict[str, Params] = {}
        self._start: _SharedStart | None = None
        self._scorer_with_key: tuple[str, Scorer] | None = None
        self._exit_stack = contextlib.ExitStack()

    def run(self, cell: Cell) -> CellOutcome:
        """Trains and evaluates one cell."""
        config = cell.config
        program, scorer = self._program(config), self._scorer(config)
        start = self._shared_start(config, program, scorer)
        began = time.perf_counter()
        params, during = self._train(config, program, scorer, start.params)
        after = _evaluate(config, program, scorer, params)
        return CellOutcome(start.before, after, during, round(time.perf_counter() - began, 3))

    def _train(
        self, config: Config, program: Program, scorer: Scorer, params: Params
    ) -> tuple[Params, Means]:
        """Parameters after the last step, and the mean rewards of the training completions."""
        collector = make_collector(config, program, scorer)
        select = make_selector(config, program, scorer)
        # A copy: the state is donated at each step, but other cells need the start again.
        copy = jax.tree.map(jax.numpy.copy, params)
        state = program.begin(copy, run_key(config, KeyPurpose.STEPS))
        weights = aggregators.named_weights(config.weights, config.objectives)
        selected = switch_state(self._methods, _method(config), weights)
        state = state._replace(aggregator_state=selected)
        reference = params if config.loss.needs_reference else None
        data, means = initial_data_state(config), []
        for _ in range(config.num_steps):
            current = state.learner.params
            data, _ = select(state, data)
            rollout, data = collector.start_rollout(current, data)
            collected, data = collector.collect(current, rollout, data)
            means.append(_means(collected.scores.rewards, collected.scores.mask))
            state, _, _ = program.step(state, collected.experience, reference)
        return state.learner.params, _named(config.objectives, np.nanmean(means, axis=0))

    def _program(self, config: Config) -> Program:
        """The compiled functions; cells that differ only in data share them."""
        key = _program_key(config)
        if key not in self._programs:
            self._programs[key] = make_program(config, switch_aggregator(self._methods))
        return self._programs[key]

    def _scorer(self, config: Config) -> Scorer:
        """The scorer of the cell's situation."""
        described = _json(config)
        key = _text([described["task"], described["rewards"]])
        if self._scorer_with_key is None or self._scorer_with_key[0] != key:
            self._exit_stack.close()
            self._scorer_with_key = key, self._exit_stack.enter_context(make_scorer(config))
        return self._scorer_with_key[1]

    def _shared_start(self, config: Config, program: Program, scorer: Scorer) -> _SharedStart:
        """The start of the cell's situation and seed."""
        key = _start_key(config)
        if self._start is None or self._start.key != key:
            params = self._warm_start(config, program)
            before = _evaluate(config, program, scorer, params)
            self._start = _SharedStart(key, params, before)
        return self._start

    def _warm_start(self, config: Config, program: Program) -> Params:
        """Parameters after the warm start; situations with the same demonstrations share it."""
        described = _json(config)
        settings = [described[name] for name in ("seed", "model", "warm_start", "max_new_tokens")]
        texts_of_batches = (
            [prompt.text for prompt in prompts] + texts for prompts, texts in demonstrations(config)
        )
        key = digest([settings, *texts_of_batches])
        if key not in self._warm_starts:
            quiet = Display((), (), 0, Console(quiet=True))
            start = program.init(run_key(config, KeyPurpose.PARAMETERS))
            self._warm_starts[key] = run_warm_start(config, program, start, quiet)
        return self._warm_starts[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit_stack.close()


def _evaluate(config: Config, program: Program, scorer: Scorer, params: Params) -> Means:
    """Mean rewards on the held-out problems, and mean length."""
    evaluation: Evaluation = evaluate_policy(config, evaluator_of(program), scorer, params)
    rewards = np.stack([problem.rewards for problem in evaluation.problems])
    lengths = [c.length for problem in evaluation.problems for c in problem.completions]
    means = _means(np.nan_to_num(rewards), ~np.isnan(rewards))
    return _named((*evaluation.names, "length"), [*means.tolist(), float(np.mean(lengths))])


def _means(rewards: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`[K]` means over the scored rewards of `[B, G, K]`; NaN where none was scored."""
    total = np.where(mask, rewards, 0.0).sum(axis=(0, 1), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return total / mask.sum(axis=(0, 1))


def _named(names: Sequence[str], values: Iterable[float]) -> Means:
    """Name -> value, rounded to six decimals."""
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}


def _method(config: Config) -> UnweightedMethod:
    return UnweightedMethod(config.aggregator.name, aggregator_knobs(config))


def _program_key(config: Config) -> str:
    """The settings that a cell's program depends on.

    It does not depend on seed, weights, method, rewards and the knobs of the allocation rule.
    """
    described = _json(config)
    for name in ("name", "seed", "weights", "task"):
        del described[name]
    for name in ("name", "options"):
        del described["aggregator"][name]
    del described["allocation"]["options"]  # rules run on the host
    tokenizer = config.task.tokenizer
    shapes = [config.task.max_prompt_length, list(config.objectives)]
    described["task"] = [repr(tokenizer), list(tokenizer.stop_tokens), tokenizer.pad_token, *shapes]
    return _text(described)


def _start_key(config: Config) -> str:
    """The settings that a cell's warm start and its evaluation depend on."""
    described = _json(config)
    names = ("seed", "task", "model", "warm_start", "max_new_tokens", "evaluation", "mesh")
    return _text({name: described[name] for name in names})


def _json(config: Config) -> dict:
    return config_to_json(config)


def _text(described: object) -> str:
    return json.dumps(described, sort_keys=True)
