"""dvaojax: multi-reward reinforcement learning for language models, in JAX.

`import dvaojax` loads nothing else. The names below are imported on first use:

- `dvaojax.aggregators`: rewards `[..., G, K]` to advantages `[..., G]`; needs jax and chex.
- `dvaojax.losses`: log-probabilities and advantages to a loss, as a sum and a count.
- `dvaojax.rollout`: sampling of groups of completions.
- `dvaojax.train`: the training loop.
- `dvaojax.Config`: the configuration of a run.
- `dvaojax.Prompt`, `dvaojax.Completion`: the types of reward functions; they do not import JAX.

The other packages, such as `dvaojax.rewards`, are imported by name.
"""

import importlib

__version__ = "0.1.0"

_PACKAGES = ("aggregators", "losses", "rollout", "train")
_MEMBERS = {"Config": "config", "Prompt": "types", "Completion": "types"}  # with their modules


def __getattr__(name: str) -> object:
    """Imports a name on first use; type checkers read `__init__.pyi` instead."""
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _MEMBERS:
        value = getattr(importlib.import_module(f"{__name__}.{_MEMBERS[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *_MEMBERS})
