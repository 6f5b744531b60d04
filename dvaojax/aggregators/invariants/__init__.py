"""The papers' propositions as assertions: what must hold of every batch that is aggregated.

`check` examines one batch with what belongs to its aggregator in `BY_NAME`. Each assertion is a
`checkify.check`: outside jit it raises at once; in a run chex makes it functional, and a violated
one stops the run with the invariant's number and the group's index:

    checked = chex.chexify(jax.jit(functools.partial(check, "dvao")), async_check=False)
    checked(rewards, weights, advantages, mask=mask)

Statements that compare two batches, or two methods on one, are the `assert_...` functions, written
in `transformations` and exported here. All use one list of numbers: 1 to 35 concern reward
combination (RC), advantage combination (AC) and DVAO, 36 to 42 GDPO, 43 to 49 their relatives, 50
to 56 RVPO, 57 Lite PPO and 58 RLOO. What the papers state for the population's deviation is written
for `ddof` 0 and 1 alike: with 1, mean squares carry the factor `(n - 1) / n`.

An advantage is examined in units in which rounding is small: multiplied by its own divisor, over
`S = sum_k w_k sigma_k` for methods that sum first. RC's divisor may be a small difference of large
terms, and the last digits of RC with it; those of `c / S` are not.
"""

from typing import Any

from jax.typing import ArrayLike

from dvaojax.aggregators.invariants.facts import gather
from dvaojax.aggregators.invariants.propositions import TOLERANCE, assert_small
from dvaojax.aggregators.invariants.relatives import RELATIVES
from dvaojax.aggregators.invariants.statements import FIRST, SILENCE, Invariant
from dvaojax.aggregators.invariants.transformations import assert_agree as assert_agree
from dvaojax.aggregators.invariants.transformations import assert_cancels as assert_cancels
from dvaojax.aggregators.invariants.transformations import (
    assert_constant_objective_is_ignored as assert_constant_objective_is_ignored,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_duplication_invariant as assert_duplication_invariant,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_group_affine_invariant as assert_group_affine_invariant,
)
from dvaojax.aggregators.invariants.transformations import assert_joint_scale as assert_joint_scale
from dvaojax.aggregators.invariants.transformations import assert_mean_square as assert_mean_square
from dvaojax.aggregators.invariants.transformations import (
    assert_objective_scale_invariant as assert_objective_scale_invariant,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_objective_scale_is_a_weight as assert_objective_scale_is_a_weight,
)
from dvaojax.aggregators.invariants.transformations import assert_odd as assert_odd
from dvaojax.aggregators.invariants.transformations import (
    assert_own_reward_never_hurts as assert_own_reward_never_hurts,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_permutation_equivariant as assert_permutation_equivariant,
)
from dvaojax.aggregators.invariants.transformations import assert_same as assert_same
from dvaojax.aggregators.invariants.transformations import (
    assert_sensitivities as assert_sensitivities,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_shift_invariant as assert_shift_invariant,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_soft_minimum as assert_soft_minimum,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_soft_minimum_expansion as assert_soft_minimum_expansion,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_soft_minimum_is_a_mean as assert_soft_minimum_is_a_mean,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_split_invariant as assert_split_invariant,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_weight_scale as assert_weight_scale,
)
from dvaojax.aggregators.invariants.transformations import (
    assert_weights_undo_deviations as assert_weights_undo_deviations,
)
from dvaojax.aggregators.invariants.transformations import assert_within as assert_within
from dvaojax.aggregators.invariants.variants import VARIANTS


def check(
    name: str,
    rewards: ArrayLike,
    weights: ArrayLike,
    advantages: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    **knobs: Any,
) -> None:
    """Assert everything that must hold of these advantages of the aggregator of that name.

    Args:
        name: a key of `aggregators.METHODS`; of one without an entry here only silence is checked.
        rewards: `[..., G, K]`, as the aggregator was given them.
        weights: `[K]` or `[..., K]`.
        advantages: `[..., G]`, what it returned.
        mask: `[..., G, K]` bool, as the aggregator was given it.
        lengths: `[..., G]`, where the aggregator takes them.
        knobs: those that the aggregator was called with.

    Raises:
        ValueError: one is violated; the message names it, the group and by how much. Inside jit
            only under `checkify.checkify` or `chex.chexify`.
    """
    facts = gather(name, rewards, weights, advantages, mask=mask, lengths=lengths, knobs=knobs)
    for invariant in BY_NAME.get(name, (SILENCE,)):
        assert_small(
            invariant.excess(facts), invariant.statement, TOLERANCE[facts.advantages.dtype]
        )


BY_NAME: dict[str, tuple[Invariant, ...]] = {**FIRST, **RELATIVES, **VARIANTS}
"""What must hold of one batch, by the name of the aggregator."""
