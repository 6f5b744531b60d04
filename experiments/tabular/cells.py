"""The experiment in cells of one method, variant and step: computed once, and kept.

A cell is a file of its own, written whole or not at all. It holds every seed's result, so that
methods can be compared seed by seed, and the digest of the code that computed it: a cell of other
code or settings is computed again.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tabular import learning, measures, problem
from tabular.problem import Variant

from dvaojax import files
from dvaojax.aggregators import METHODS
from dvaojax.errors import UserError

SEEDS_AT_ONCE = 125  # of a device: their arrays fit the cache of a core
STEPS = ("common", "equal", "own")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all cells have in common.

    Attributes:
        num_seeds: each with a table and draws of its own; fewer than 125, or a multiple of it.
        accuracy_weights: what accuracy weighs in each run of a front; the other two objectives
            share the rest.
        rate: of the steps "common" and "equal".
        rates: among which the step "own" chooses, as many as there are weights.
        num_tuning_seeds: what it is chosen on, at the middle weight; they are no others' seeds.
        size: how long training is.
    """

    num_seeds: int = 1000
    accuracy_weights: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    rate: float = 0.8
    rates: tuple[float, ...] = (0.8, 2.4, 7.2, 21.6, 64.8)
    num_tuning_seeds: int = 250
    size: learning.Size = learning.Size()

    def __post_init__(self):
        """Refuses what the devices cannot share."""
        for num_seeds in (self.num_seeds, self.num_tuning_seeds):
            if num_seeds < 1 or (num_seeds > SEEDS_AT_ONCE and num_seeds % SEEDS_AT_ONCE):
                raise UserError(
                    f"{num_seeds} seeds: fewer than {SEEDS_AT_ONCE}, or a multiple of it"
                )

    @property
    def seeds(self) -> np.ndarray:
        """`[S]`."""
        return np.arange(self.num_seeds, dtype=np.int32)

    @property
    def tuning_seeds(self) -> np.ndarray:
        """Seeds that are not among `seeds`."""
        return 1_000_000 + np.arange(self.num_tuning_seeds, dtype=np.int32)

    @property
    def weights(self) -> np.ndarray:
        """`[W, K]`, each with sum 1."""
        accuracy = np.array(self.accuracy_weights)
        return np.stack([accuracy, (1 - accuracy) / 2, (1 - accuracy) / 2], axis=1)


class Cell(NamedTuple):
    """The runs of one method, variant and step.

    Attributes:
        values: `[S, W, K]` how often each objective is earned at the end.
        mean_square: `[S, W]` of the advantages.
        alignment: `[S, W]` of the first step with the exact gradient.
        rate: `[]` the learning rate.
    """

    values: np.ndarray
    mean_square: np.ndarray
    alignment: np.ndarray
    rate: np.ndarray


def compute(name: str, variant: Variant, step: str, settings: Settings) -> Cell:
    """The runs of a cell.

    Args:
        name: a key of `aggregators.METHODS`.
        variant: of the tables.
        step: "common": the advantages as they are, all methods at one rate. "equal": those of each
            step divided by the root of their mean square, at that rate. "own": as they are, at the
            rate of `settings.rates` that serves the method best.
        settings: of the experiment.
    """
    rate = own_rate(name, variant, settings) if step == "own" else settings.rate
    rates = np.full(len(settings.weights), rate)
    return Cell(
        *_runs(name, variant, settings.seeds, settings.weights, rates, step == "equal", settings),
        rate=np.array(rate),
    )


def own_rate(name: str, variant: Variant, settings: Settings) -> float:
    """The rate with the largest progress on the tuning seeds, at the middle weight."""
    middle = settings.weights[len(settings.weights) // 2]
    weights, seeds = np.tile(middle, (len(settings.rates), 1)), settings.tuning_seeds
    rates = np.array(settings.rates)
    values = _runs(name, variant, seeds, weights, rates, False, settings)[0]
    gained = measures.progress(values, weights, measures.ends(variant, seeds, weights))
    return settings.rates[int(np.argmax(gained.mean(axis=0)))]


def _runs(
    name: str,
    variant: Variant,
    seeds: np.ndarray,
    weights: np.ndarray,
    rates: np.ndarray,
    is_equalised: bool,
    settings: Settings,
) -> list[np.ndarray]:
    """The fields of a `learning.Run` with the leading axes `[S, W]`, in float64."""
    mesh = _mesh_for(len(seeds))
    parts = []
    for begin in range(0, len(seeds), SEEDS_AT_ONCE * mesh.size):
        some = seeds[begin : begin + SEEDS_AT_ONCE * mesh.size]
        run = learning.run_seeds(
            name,
            learning.problems_of(jnp.asarray(some), variant),
            _draws(int(some[0]), len(some), settings.size, mesh),
            jnp.asarray(weights, jnp.float32),
            jnp.asarray(rates, jnp.float32),
            jnp.asarray(is_equalised),
            size=settings.size,
            mesh=mesh,
        )
        parts.append(jax.tree.map(lambda a: np.asarray(a, np.float64), run))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


@functools.lru_cache(maxsize=16)
def _draws(first: int, count: int, size: learning.Size, mesh: Mesh) -> learning.Draws:
    """The draws of seeds that follow one another, which no cell changes: 14 MB for 250."""
    draws = learning.draws_of(jnp.arange(first, first + count), size=size)
    return jax.device_put(draws, NamedSharding(mesh, PartitionSpec("seeds")))


def _mesh_for(num_seeds: int) -> Mesh:
    """As many devices as the seeds are whole parts for; a seed's result depends on none of it."""
    parts = max(1, num_seeds // SEEDS_AT_ONCE)
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if parts % n == 0)
    return Mesh(np.array(devices[:count]), ("seeds",))


def digest(name: str, settings: Settings) -> str:
    """Of the settings and of the code of the model, the update and the method; not of its notes."""
    modules = (problem, learning, sys.modules[METHODS[name].__module__])
    text = "".join(map(_code, modules)) + repr(settings)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code(module: ModuleType) -> str:
    """A module's syntax without docstrings and comments."""
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        is_documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if is_documented and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def path_of(directory: Path, name: str, variant: str, step: str) -> Path:
    """Where a cell is kept."""
    return directory / name / f"{variant}.{step}.npz"


def load(path: Path, expected: str) -> Cell | None:
    """A cell that was computed before; None where there is none of that digest."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["digest"]) != expected:
                return None
            return Cell(*(kept[field].astype(np.float64) for field in Cell._fields))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # it is not there, or no cell: it is written anew


def save(path: Path, cell: Cell, digest: str) -> None:
    """Keeps a cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.partial(path)
    with temporary.open("wb") as file:
        fields: dict[str, Any] = {name: np.float32(a) for name, a in cell._asdict().items()}
        np.savez_compressed(file, digest=np.array(digest), **fields)
    temporary.replace(path)
