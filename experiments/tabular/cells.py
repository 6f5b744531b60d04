"""Cells of the experiment (a method, a variant, a kind of step), computed once and saved.

A cell is one file, written atomically. It contains every seed's result, so that methods can be
compared seed by seed, and the digest of the code that computed it: a cell with other code or
settings is computed again.
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

SEEDS_AT_ONCE = 125  # per device: their arrays fit the cache of a core
STEPS = ("common", "equal", "own")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings shared by all cells.

    Attributes:
        num_seeds: each with its own table and draws; fewer than 125, or a multiple of it.
        accuracy_weights: weight of accuracy in each run of a front; the other two objectives share
            the rest.
        rate: learning rate of the steps "common" and "equal".
        rates: candidates for the step "own", as many as there are weights.
        num_tuning_seeds: for the choice of that rate, at the middle weight; disjoint from the other
            seeds.
        size: number of steps and completions.
    """

    num_seeds: int = 1000
    accuracy_weights: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    rate: float = 0.8
    rates: tuple[float, ...] = (0.8, 2.4, 7.2, 21.6, 64.8)
    num_tuning_seeds: int = 250
    size: learning.Size = learning.Size()

    def __post_init__(self):
        """Refuses numbers of seeds that cannot be split over devices."""
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
        values: `[S, W, K]` probability that the final policy earns each objective.
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
        step: "common": unscaled advantages, one rate for all methods. "equal": the advantages of
            each step divided by their root mean square, at that rate. "own": unscaled advantages,
            at the best of `settings.rates` for the method.
        settings: of the experiment.
    """
    rate = own_rate(name, variant, settings) if step == "own" else settings.rate
    rates = np.full(len(settings.weights), rate)
    equalised = np.full(len(rates), step == "equal")
    weights, size = settings.weights, settings.size
    return Cell(
        *runs(name, variant, settings.seeds, weights, rates, equalised, size), rate=np.array(rate)
    )


def own_rate(name: str, variant: Variant, settings: Settings) -> float:
    """The rate with the largest progress on the tuning seeds, at the middle weight."""
    middle = settings.weights[len(settings.weights) // 2]
    weights, seeds = np.tile(middle, (len(settings.rates), 1)), settings.tuning_seeds
    rates = np.array(settings.rates)
    equalised = np.zeros(len(rates), bool)
    values = runs(name, variant, seeds, weights, rates, equalised, settings.size)[0]
    gained = measures.progress(values, weights, measures.ends(variant, seeds, weights))
    return settings.rates[int(np.argmax(gained.mean(axis=0)))]


def runs(
    name: str,
    variant: Variant,
    seeds: np.ndarray,
    weights: np.ndarray,
    rates: np.ndarray,
    is_equalised: np.ndarray,
    size: learning.Size,
) -> list[np.ndarray]:
    """The fields of a `learning.Run` with the leading axes `[S, W]`, in float64.

    Args:
        name: a key of `aggregators.METHODS`.
        variant: of the tables.
        seeds: `[S]`, consecutive; fewer than 125, or a multiple of it.
        weights: `[W, K]`, of each setting.
        rates: `[W]`, of each setting.
        is_equalised: `[W]`, whether each step's advantages have the mean square 1.
        size: of a run.
    """
    mesh = _mesh_for(len(seeds))
    parts = []
    for begin in range(0, len(seeds), SEEDS_AT_ONCE * mesh.size):
        chunk = seeds[begin : begin + SEEDS_AT_ONCE * mesh.size]
        run = learning.run_seeds(
            name,
            learning.problems_of(jnp.asarray(chunk), variant),
            _draws(int(chunk[0]), len(chunk), size, mesh),
            jnp.asarray(weights, jnp.float32),
            jnp.asarray(rates, jnp.float32),
            jnp.asarray(is_equalised),
            size=size,
            mesh=mesh,
        )
        parts.append(jax.tree.map(lambda a: np.asarray(a, np.float64), run))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


@functools.lru_cache(maxsize=16)
def _draws(first: int, count: int, size: learning.Size, mesh: Mesh) -> learning.Draws:
    """The draws of consecutive seeds, cached because all cells share them: 14 MB for 250."""
    draws = learning.draws_of(jnp.arange(first, first + count), size=size)
    return jax.device_put(draws, NamedSharding(mesh, PartitionSpec("seeds")))


def _mesh_for(num_seeds: int) -> Mesh:
    """A mesh that splits the seeds evenly; the result of a seed does not depend on it."""
    parts = max(1, num_seeds // SEEDS_AT_ONCE)
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if parts % n == 0)
    return Mesh(np.array(devices[:count]), ("seeds",))


def digest(name: str, settings: Any, *more: ModuleType) -> str:
    """Digest of the settings and the code of model, update, method and further modules.

    Docstrings do not count.
    """
    modules = (problem, learning, sys.modules[METHODS[name].__module__], *more)
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
    """The file of a cell."""
    return directory / name / f"{variant}.{step}.npz"


def load(path: Path, expected: str, kind: Any = Cell) -> Any:
    """Loads a cell of a kind; None if there is none with that digest."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["digest"]) != expected:
                return None
            return kind(*(kept[field].astype(np.float64) for field in kind._fields))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # missing or damaged: it is computed again


def save(path: Path, cell: Any, digest: str) -> None:
    """Writes a cell atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.partial_path(path)
    with temporary.open("wb") as file:
        fields: dict[str, Any] = {name: np.float32(a) for name, a in cell._asdict().items()}
        np.savez_compressed(file, digest=np.array(digest), **fields)
    temporary.replace(path)
