"""The run to be planned: configuration, prompt length and slice."""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax.sharding import AbstractMesh

from dvaojax import models, sharding
from dvaojax.config import Config
from dvaojax.models.flops import Lengths, full_lengths
from dvaojax.plan.chips import Slice
from dvaojax.sharding import MeshConfig


@dataclasses.dataclass(frozen=True)
class Job:
    """A run on a slice.

    Attributes:
        config: of the run; every axis of its mesh has a size.
        prompt_length: `P`, the length that prompts are padded to.
        slice: the chips.
    """

    config: Config
    prompt_length: int
    slice: Slice

    @property
    def lengths(self) -> Lengths:
        """Lengths of a step in which all completions reach the limit, the most expensive case."""
        return self._lengths(self.config.prompts_per_step)

    @property
    def chip_lengths(self) -> Lengths:
        """Lengths of the groups of one chip."""
        return self._lengths(self.config.prompts_per_step // self.ways)

    @property
    def row_pairs(self) -> int:
        """Pairs of a query and a visible key in a row of training attention, a whole group."""
        prompt, length = self.prompt_length, self.config.max_new_tokens - 1
        own = self.config.group_size * (prompt * length + length * (length + 1) // 2)
        return prompt * (prompt + 1) // 2 + own

    @property
    def ways(self) -> int:
        """Number of parts that the groups are split into."""
        return self.config.mesh.replica * self.config.mesh.data * self.config.mesh.fsdp

    @property
    def layout(self) -> str:
        """The settings that the search may change, in the form of `--set`."""
        mesh = " ".join(f"mesh.{a}={getattr(self.config.mesh, a)}" for a in sharding.MESH_AXES)
        return (
            f"{mesh} learning.micro_batches={self.config.learning.micro_batches} "
            f"model.remat={self.config.model.remat}"
        )

    def with_layout(self, mesh: MeshConfig, *, micro_batches: int, remat: str) -> "Job":
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
        """Whether groups, heads and widths divide over the mesh, as the trainer requires."""
        model, learning, mesh = self.config.model, self.config.learning, self.config.mesh
        num_batches = learning.mini_batches * learning.micro_batches
        by_tensor = (model.num_heads, model.num_kv_heads, model.ff_width, model.vocab_size)
        return (
            self.config.prompts_per_step % (num_batches * self.ways) == 0
            and model.width % mesh.fsdp == 0
            and all(size % mesh.tensor == 0 for size in by_tensor)
        )

    @property
    def all_parameters(self) -> int:
        """Number of parameters."""
        return sum(
            math.prod(s.shape) for s in jax.tree.leaves(_parameter_shapes(self.config.model))
        )

    @property
    def parameters(self) -> int:
        """Number of parameters in the shards of one chip."""
        shapes = _parameter_shapes(self.config.model)
        sizes = tuple(getattr(self.config.mesh, axis) for axis in sharding.MESH_AXES)
        mesh = AbstractMesh(sizes, sharding.MESH_AXES)
        shardings = sharding.shardings(mesh, shapes, models.logical_axes)
        return shard_size(shapes, shardings)

    def _lengths(self, num_prompts: int) -> Lengths:
        return full_lengths(
            num_prompts=num_prompts,
            group_size=self.config.group_size,
            prompt_length=self.prompt_length,
            completion_length=self.config.max_new_tokens,
        )


_parameter_shapes = functools.lru_cache(models.shapes)


def shard_size(shapes: Any, shardings: Any) -> int:
    """Number of elements on one device, of a tree of shapes with a tree of their shardings."""
    sizes = jax.tree.map(
        lambda shape, sharding: math.prod(sharding.shard_shape(shape.shape)), shapes, shardings
    )
    return sum(jax.tree.leaves(sizes))
