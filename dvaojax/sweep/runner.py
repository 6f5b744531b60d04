"""One cell after the other: trained and measured, with nothing compiled or started twice.

A run of `dvaojax train` keeps checkpoints, metrics and pictures. A cell keeps its measures alone,
for it lasts seconds; what is lost by a kill is the cell that was being trained. It takes the same
steps with the same random keys.

Cells are not trained side by side in one program: on a CPU that is no faster. With the shoot-out's
decoder one core samples 8 groups in 6 ms and 40 in 26, and updates on 8 in 17 ms and on 40 in 143.
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
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.evaluation.record import digest
from dvaojax.models import Params
from dvaojax.run import directory as run_directory
from dvaojax.run.display import Display
from dvaojax.sweep.grid import Cell, Sweep, cell_at, corners
from dvaojax.sweep.switch_aggregator import Method, choose, switchboard
from dvaojax.train.allocation_state import Reading, nothing_known
from dvaojax.train.evaluator import evaluate_policy, evaluator_of
from dvaojax.train.loop import make_collector
from dvaojax.train.program import Program, make_program
from dvaojax.train.session import make_suite, run_key
from dvaojax.train.sft import demonstrations, warm_up
from dvaojax.types import Scorer

Means = Mapping[str, float]


class Outcome(NamedTuple):
    """What a cell came to.

    Attributes:
        before: objective -> mean reward on the held-out problems, before the first step.
        after: the same after the last, and `length` in tokens.
        during: objective -> mean reward over all steps, as it was paid in training.
        seconds: that training and measuring took, the start that cells share left out.
    """

    before: Means
    after: Means
    during: Means
    seconds: float


class _Start(NamedTuple):
    """What the cells of one situation and seed have in common.

    Attributes:
        key: tells starts apart.
        params: after the warm start.
        before: their measures.
    """

    key: str
    params: Params
    before: Means


class Runner:
    """Trains cells; a context manager, for a situation's scorer may hold something open."""

    def __init__(self, sweep: Sweep):
        """Compiles nothing yet."""
        methods = [_method(cell_at(sweep, place).config) for place in corners(sweep)]
        self._methods = [m for i, m in enumerate(methods) if m not in methods[:i]]
        self._programs: dict[str, Program] = {}
        self._warm: dict[str, Params] = {}
        self._start: _Start | None = None
        self._suite_of: tuple[str, Scorer] | None = None
        self._open = contextlib.ExitStack()

    def run(self, cell: Cell) -> Outcome:
        """Trains and measures one cell."""
        config = cell.config
        program, suite = self._program(config), self._suite(config)
        start = self._started(config, program, suite)
        began = time.perf_counter()
        params, during = self._trained(config, program, suite, start.params)
        after = _measured(config, program, suite, params)
        return Outcome(start.before, after, during, round(time.perf_counter() - began, 3))

    def _trained(
        self, config: Config, program: Program, suite: Scorer, params: Params
    ) -> tuple[Params, Means]:
        """Parameters after the last step, and what was paid on the way."""
        collector = make_collector(config, program, suite)
        # The state is donated from step to step, and the start is needed again.
        state = program.begin(jax.tree.map(jax.numpy.copy, params), run_key(config, 1))
        weights = aggregators.named_weights(config.weights, config.objectives)
        state = state._replace(aggregator_state=choose(self._methods, _method(config), weights))
        reference = params if config.loss.kl_weight > 0.0 else None
        reading, paid = Reading(0, nothing_known(config)), []
        for _ in range(config.num_steps):
            current = state.learner.params
            draw, reading = collector.draw(current, reading)
            collected, reading = collector.collect(current, draw, reading)
            paid.append(_means(collected.scores.rewards, collected.scores.mask))
            state, _, _ = program.step(state, collected.experience, reference)
        return state.learner.params, _named(config.objectives, np.nanmean(paid, axis=0))

    def _program(self, config: Config) -> Program:
        """The compiled functions; cells that differ in data alone share them."""
        key = _program_key(config)
        if key not in self._programs:
            self._programs[key] = make_program(config, switchboard(self._methods))
        return self._programs[key]

    def _suite(self, config: Config) -> Scorer:
        """The objectives of the cell's situation, ready to score."""
        described = _json(config)
        key = _text([described["task"], described["rewards"]])
        if self._suite_of is None or self._suite_of[0] != key:
            self._open.close()
            self._suite_of = key, self._open.enter_context(make_suite(config))
        return self._suite_of[1]

    def _started(self, config: Config, program: Program, suite: Scorer) -> _Start:
        """Parameters after the warm start of the cell's situation and seed."""
        key = _start_key(config)
        if self._start is None or self._start.key != key:
            params = self._warmed_up(config, program)
            self._start = _Start(key, params, _measured(config, program, suite, params))
        return self._start

    def _warmed_up(self, config: Config, program: Program) -> Params:
        """Parameters after a warm start; situations with the same demonstrations share it."""
        described = _json(config)
        settings = [described[name] for name in ("seed", "model", "warm_start", "max_new_tokens")]
        shown = (
            [prompt.text for prompt in prompts] + texts for prompts, texts in demonstrations(config)
        )
        key = digest([settings, *shown])
        if key not in self._warm:
            quiet = Display((), (), 0, Console(quiet=True))
            start = program.init(run_key(config, 0))
            self._warm[key] = warm_up(config, program, start, quiet)
        return self._warm[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()


def _measured(config: Config, program: Program, suite: Scorer, params: Params) -> Means:
    """The mean rewards on held-out problems, and the mean length."""
    found: Evaluation = evaluate_policy(config, evaluator_of(program), suite, params)
    rewards = np.stack([problem.rewards for problem in found.problems])
    lengths = [c.length for problem in found.problems for c in problem.completions]
    means = _means(np.nan_to_num(rewards), ~np.isnan(rewards))
    return _named((*found.names, "length"), [*means.tolist(), float(np.mean(lengths))])


def _means(rewards: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`[K]` means of what was scored of `[B, G, K]`; NaN where nothing was."""
    total = np.where(mask, rewards, 0.0).sum(axis=(0, 1), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return total / mask.sum(axis=(0, 1))


def _named(names: Sequence[str], values: Iterable[float]) -> Means:
    """Numbers as they are kept, with the digits that mean something."""
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}


def _method(config: Config) -> Method:
    return Method(config.aggregator, aggregator_knobs(config))


def _program_key(config: Config) -> str:
    """What a cell's program depends on: not its seed, weights, method, nor what its task pays."""
    described = _json(config)
    for name in ("name", "seed", "weights", "aggregator", "aggregator_options", "task"):
        del described[name]
    tokenizer = config.task.tokenizer
    shapes = [config.task.max_prompt_length, list(config.objectives)]
    described["task"] = [repr(tokenizer), list(tokenizer.stop_tokens), tokenizer.pad_token, *shapes]
    return _text(described)


def _start_key(config: Config) -> str:
    """What a cell's warm start and its measures depend on."""
    described = _json(config)
    names = ("seed", "task", "model", "warm_start", "max_new_tokens", "evaluation", "mesh")
    return _text({name: described[name] for name in names})


def _json(config: Config) -> dict:
    return run_directory.config_to_json(config)


def _text(described: object) -> str:
    return json.dumps(described, sort_keys=True)
