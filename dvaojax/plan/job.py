"""What is planned: a run's configuration, how long its prompts are, and on which slice."""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax.sharding import AbstractMesh

from dvaojax import models, sharding
from dvaojax.config import Config
from dvaojax.models import ModelConfig, Params
from dvaojax.models.flops import Lengths, full_lengths
from dvaojax.plan.chips import Slice
from dvaojax.sharding import MeshConfig


@dataclasses.dataclass(frozen=True)
class Job:
    """A run on a slice.

    Attributes:
        config: of the run; its mesh gives every axis a size.
        prompt_length: `P`, the width that prompts are padded to.
        slice: the chips.
    """

    config: Config
    prompt_length: int
    slice: Slice

    @property
    def lengths(self) -> Lengths:
        """Of a step whose completions all reach the limit, the most that it can cost."""
        return self._lengths(self.config.prompts_per_step)

    @property
    def chip_lengths(self) -> Lengths:
        """Of the groups that one chip works on."""
        return self._lengths(self.config.prompts_per_step // self.ways)

    @property
    def ways(self) -> int:
        """Parts that the groups are split into."""
        return self.config.mesh.data * self.config.mesh.fsdp

    @property
    def layout(self) -> str:
        """What the search may change, as `--set` takes it."""
        mesh = " ".join(f"mesh.{a}={getattr(self.config.mesh, a)}" for a in sharding.MESH_AXES)
        return (
            f"{mesh} learning.micro_batches={self.config.learning.micro_batches} "
            f"model.remat={self.config.model.remat}"
        )

    def laid_out(self, mesh: MeshConfig, *, micro_batches: int, remat: str) -> "Job":
        """The same job in another layout."""
        config = dataclasses.replace(
            self.config,
            mesh=mesh,
            learning=dataclasses.replace(self.config.learning, micro_batches=micro_batches),
            model=dataclasses.replace(self.config.model, remat=remat),
        )
        return dataclasses.replace(self, config=config)

    @property
    def divides(self) -> bool:
        """Whether groups, heads and widths divide over the mesh, which the trainer insists on."""
        model, learning, mesh = self.config.model, self.config.learning, self.config.mesh
        pieces = learning.mini_batches * learning.micro_batches
        by_tensor = (model.num_heads, model.num_kv_heads, model.ff_width, model.vocab_size)
        return (
            self.config.prompts_per_step % (pieces * self.ways) == 0
            and model.width % mesh.fsdp == 0
            and all(size % mesh.tensor == 0 for size in by_tensor)
        )

    @property
    def all_parameters(self) -> int:
        """Numbers in the parameters, wherever they are."""
        return sum(
            math.prod(s.shape) for s in jax.tree.leaves(_parameter_shapes(self.config.model))
        )

    @property
    def parameters(self) -> int:
        """Numbers in the parameters' shards on one chip."""
        shapes = _parameter_shapes(self.config.model)
        sizes = tuple(getattr(self.config.mesh, axis) for axis in sharding.MESH_AXES)
        mesh = AbstractMesh(sizes, sharding.MESH_AXES)
        where = sharding.shardings(mesh, shapes, models.logical_axes)
        return shard_numbers(shapes, where)

    def _lengths(self, num_prompts: int) -> Lengths:
        return full_lengths(
            num_prompts=num_prompts,
            group_size=self.config.group_size,
            prompt_length=self.prompt_length,
            completion_length=self.config.max_new_tokens,
        )


@functools.lru_cache
def _parameter_shapes(model: ModelConfig) -> Params:
    return jax.eval_shape(lambda: models.init(model, jax.random.key(0)))


def shard_numbers(shapes: Any, where: Any) -> int:
    """Numbers that one device holds of a tree of shapes with their shardings."""
    sizes = jax.tree.map(lambda s, w: math.prod(w.shard_shape(s.shape)), shapes, where)
    return sum(jax.tree.leaves(sizes))
