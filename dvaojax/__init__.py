"""dvaojax: multi-reward reinforcement learning for language models, in JAX.

The rooms are imported by name, so that each brings only what it needs:

- `dvaojax.aggregators`: rewards `[..., G, K]` to advantages `[..., G]`; needs jax and chex.
- `dvaojax.losses`: log-probabilities and advantages to a sum and a count.
- `dvaojax.rewards`: text to numbers; starts no JAX.
- `dvaojax.train`: the loop; `dvaojax.cli` is its door.
"""

__version__ = "0.1.0"
