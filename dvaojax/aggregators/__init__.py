"""Advantage aggregators: rewards `[..., G, K]` to advantages `[..., G]`, one method a file.

    from dvaojax.aggregators import dvao
    advantages = dvao(rewards, weights)

Two families. The *sums*, `dvao` among them, divide the weighted sum of the rewards, minus a
baseline, by one positive number per group or batch, and so never change which completion of a group
they prefer. The *z-scores*, such as `gdpo`, first put each objective on the scale of its own group.
Others are one of the two under weights that they adapt to the rewards. `catalogue.py` has each
method's family, and what holds of it.

Under `jit` the batch is the whole batch, however it is sharded. Inside `shard_map` a function sees
the groups of one device and takes them for the batch: there the rewards are gathered first, and the
device takes its part, `gdpo(all_gather(rewards, axis), weights)[axis_index(axis)]`.

A method is added by writing its file, exporting it here and naming it in a table: in `BY_NAME` a
function of one step's rewards, in `RANDOM` one that takes a random key as well, in `STATEFUL` a
factory `name(weights, **knobs)` of an `Aggregator` that remembers earlier steps. The common tests,
the command line, the sweep and the plots know it from there. A row in the catalogue says what is to
be known of it before it is chosen.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from jax import Array
from jax.typing import ArrayLike

from dvaojax.aggregators._core.aggregator import Aggregator as Aggregator
from dvaojax.aggregators._core.aggregator import knobs_of as knobs_of
from dvaojax.aggregators._core.aggregator import knobs_per_objective as knobs_per_objective
from dvaojax.aggregators._core.aggregator import named_weights as named_weights
from dvaojax.aggregators._core.aggregator import needs_lengths as needs_lengths
from dvaojax.aggregators._core.aggregator import stateful as stateful
from dvaojax.aggregators._core.aggregator import stateless as stateless
from dvaojax.aggregators._core.aggregator import suggest as suggest
from dvaojax.aggregators._core.diagnostics import Diagnostics as Diagnostics
from dvaojax.aggregators._core.diagnostics import diagnostics as diagnostics
from dvaojax.aggregators.advantage_combination import (
    advantage_combination as advantage_combination,
)
from dvaojax.aggregators.corr_grpo import corr_grpo as corr_grpo
from dvaojax.aggregators.ctwa import ctwa as ctwa
from dvaojax.aggregators.dara import dara_asymmetric as dara_asymmetric
from dvaojax.aggregators.dara import dara_symmetric as dara_symmetric
from dvaojax.aggregators.dr_grpo import dr_grpo as dr_grpo
from dvaojax.aggregators.dro import accepted as accepted
from dvaojax.aggregators.dro import dro as dro
from dvaojax.aggregators.dvao import dvao as dvao
from dvaojax.aggregators.dvao_denoised import dvao_denoised as dvao_denoised
from dvaojax.aggregators.dvao_denoised import dvao_of_repeats as dvao_of_repeats
from dvaojax.aggregators.dvao_interpolated import dvao_interpolated as dvao_interpolated
from dvaojax.aggregators.dvao_shrunk import dvao_shrunk as dvao_shrunk
from dvaojax.aggregators.dvao_shrunk import dvao_shrunk_running as dvao_shrunk_running
from dvaojax.aggregators.focal import focal_reward as focal_reward
from dvaojax.aggregators.gd2po import gd2po_hard as gd2po_hard
from dvaojax.aggregators.gd2po import gd2po_snr as gd2po_snr
from dvaojax.aggregators.gdpo import gdpo as gdpo
from dvaojax.aggregators.gdpo import gdpo_token_weighted as gdpo_token_weighted
from dvaojax.aggregators.grpo import grpo as grpo
from dvaojax.aggregators.gtpo import gtpo as gtpo
from dvaojax.aggregators.hvpo import hvpo as hvpo
from dvaojax.aggregators.lagrangian import constrained_grpo as constrained_grpo
from dvaojax.aggregators.lagrangian import lagrangian as lagrangian
from dvaojax.aggregators.lite_ppo import lite_ppo as lite_ppo
from dvaojax.aggregators.maxrl import maxrl as maxrl
from dvaojax.aggregators.ms_grpo import ms_grpo as ms_grpo
from dvaojax.aggregators.opo import opo as opo
from dvaojax.aggregators.rdpo import rdpo as rdpo
from dvaojax.aggregators.reinforce_plus_plus import reinforce_plus_plus as reinforce_plus_plus
from dvaojax.aggregators.reinforce_plus_plus import (
    reinforce_plus_plus_baseline as reinforce_plus_plus_baseline,
)
from dvaojax.aggregators.reward_combination import reward_combination as reward_combination
from dvaojax.aggregators.rloo import rloo as rloo
from dvaojax.aggregators.rvpo import rvpo as rvpo
from dvaojax.aggregators.rvpo import rvpo_annealed as rvpo_annealed
from dvaojax.aggregators.rvpo import rvpo_variance_penalty as rvpo_variance_penalty
from dvaojax.aggregators.rvpo import soft_minimum as soft_minimum
from dvaojax.aggregators.sa_mrpo import sa_mrpo as sa_mrpo
from dvaojax.aggregators.saw import saw_gdpo as saw_gdpo
from dvaojax.aggregators.saw import saw_grpo as saw_grpo
from dvaojax.aggregators.sc_ppo import sc_ppo as sc_ppo
from dvaojax.aggregators.tchebycheff import augmented_tchebycheff as augmented_tchebycheff
from dvaojax.aggregators.vpo import vpo as vpo
from dvaojax.errors import UserError

BY_NAME: dict[str, Callable[..., Array]] = {
    function.__name__: function
    for function in (
        advantage_combination,
        augmented_tchebycheff,
        corr_grpo,
        dara_asymmetric,
        dara_symmetric,
        dr_grpo,
        dvao,
        dvao_denoised,
        dvao_interpolated,
        dvao_shrunk,
        focal_reward,
        gd2po_hard,
        gd2po_snr,
        gdpo,
        gdpo_token_weighted,
        grpo,
        lite_ppo,
        maxrl,
        opo,
        rdpo,
        reinforce_plus_plus,
        reinforce_plus_plus_baseline,
        reward_combination,
        rloo,
        rvpo,
        rvpo_variance_penalty,
        sa_mrpo,
        saw_gdpo,
        saw_grpo,
        sc_ppo,
    )
}
"""Functions of one step's rewards, by name."""


STATEFUL: dict[str, Callable[..., Aggregator]] = {
    factory.__name__: factory
    for factory in (
        constrained_grpo,
        ctwa,
        dvao_shrunk_running,
        hvpo,
        lagrangian,
        rvpo_annealed,
    )
}
"""Factories of aggregators that remember earlier steps, by name."""

RANDOM: dict[str, Callable[..., Array]] = {function.__name__: function for function in (vpo,)}
"""Functions that draw, by name: their third argument is a random key."""

METHODS: Mapping[str, Callable[..., Any]] = ChainMap[str, Any](BY_NAME, STATEFUL, RANDOM)
"""All tables at once, and as they are now: what is added to one of them later is found here too."""


def make(name: str, weights: ArrayLike, **knobs: Any) -> Aggregator:
    """The aggregator of that name, ready for a trainer.

    Args:
        name: a key of `METHODS`.
        weights: `[K]`, in the order of the objectives (`named_weights`).
        knobs: the method's keyword-only arguments, such as `ddof`.

    Raises:
        UserError: there is no such method, or it has no such knob; the line names the nearest
            right one.
        ValueError: a knob has a value that a method with memory cannot take.
    """
    if name not in METHODS:
        raise UserError(f"unknown aggregator {suggest(name, METHODS)}")
    known = knobs_of(METHODS[name])
    for knob in knobs:
        if knob not in known:
            raise UserError(f"{name} has no knob {suggest(knob, known)}")
    if name in STATEFUL:
        return STATEFUL[name](weights, **knobs)
    return stateless(METHODS[name], weights=weights, **knobs)
