"""Collectives and cycles of compiled programs: a hand-counted program, and real ones."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax import sharding
from dvaojax.plan.hlo import Collective, profile
from dvaojax.sharding import MeshConfig

# A loop of two iterations, then one of five (2 to 7), a fused reduce-scatter, a conditional, an
# asynchronous gather, a permutation.
PROGRAM = """HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %fusion.1 = f32[8,4]{1,0} fusion(%x), calls=%inner, backend_config={"estimated_cycles":"100"}
  %ar = f32[8,4]{1,0:T(8,128)} all-reduce(%fusion.1), replica_groups={{0,1,2,3}}, to_apply=%add
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %t = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) tuple(%i, %ar)
}

%condition (p: (s32[], f32[8,4])) -> pred[] {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) parameter(0)
  %limit = s32[]{:T(128)} constant(2)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%later (p: (s32[], f32[8,4])) -> pred[] {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) parameter(0)
  %limit = s32[]{:T(128)} constant(7)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%all-reduce-scatter.1 (q: bf16[16]) -> bf16[4] {
  %q = bf16[16]{0} parameter(0)
  %ar.2 = bf16[16]{0} all-reduce(%q), replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %slice = bf16[4]{0} dynamic-slice(%ar.2, %z), dynamic_slice_sizes={4}
}

%expensive (a: f32[4]) -> f32[4] {
  ROOT %e = f32[4]{0} fusion(%a), calls=%inner, backend_config={"estimated_cycles":"30"}
}

%cheap (a: f32[4]) -> f32[4] {
  ROOT %e = f32[4]{0} fusion(%a), calls=%inner, backend_config={"estimated_cycles":"20"}
}

ENTRY %main (a: f32[8,4], b: bf16[16]) -> f32[8,4] {
  %a = f32[8,4]{1,0:T(8,128)} parameter(0)
  %b = bf16[16]{0} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[], f32[8,4]{1,0:T(8,128)}) tuple(%zero, %a)
  %while.1 = (s32[], f32[8,4]{1,0:T(8,128)}) while(%start), condition=%condition, body=%body
  %i = s32[]{:T(128)} get-tuple-element(%while.1), index=0
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%while.1), index=1
  %next = (s32[], f32[8,4]{1,0:T(8,128)}) tuple(%i, %x)
  %while.2 = (s32[], f32[8,4]{1,0:T(8,128)}) while(%next), condition=%later, body=%body
  %g = bf16[4]{0} fusion(%b), kind=kCustom, calls=%all-reduce-scatter.1
  %c = f32[4]{0} conditional(%zero, %k, %l), branch_computations={%expensive, %cheap}
  %s = (f32[2]{0}, f32[8]{0}) all-gather-start(%h), replica_groups=mesh['x'=2,'y'=4] {'y'}
  %d = f32[8]{0} all-gather-done(%s)
  %m = f32[6]{0} collective-permute(%h), source_target_pairs={{0,1},{1,0}}
  ROOT %out = f32[8,4]{1,0:T(8,128)} get-tuple-element(%while.2), index=1
}
"""


def test_loop_bodies_are_multiplied_by_iterations():
    counted = profile(PROGRAM)
    assert counted.cycles == 7 * 100 + 30
    assert counted.collectives == {
        "all-reduce": Collective(7, 7 * 2 * 128 * 3 // 4),
        "reduce-scatter": Collective(1, 32 * 3 // 4),
        "all-gather": Collective(1, 32 * 3 // 4),
        "collective-permute": Collective(1, 24),
    }
    assert counted.sent == 1344 + 24 + 24 + 24


def test_program_without_collectives():
    compiled = jax.jit(lambda x: x * 2.0).lower(jnp.ones(8)).compile()
    assert profile(compiled.as_text()).collectives == {}


@pytest.mark.parametrize(("fsdp", "iterations"), [(8, 3), (4, 5), (2, 2)])
def test_scan_over_sharded_matrices_gathers_one_matrix_per_iteration(fsdp, iterations):
    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=fsdp), jax.devices()[:fsdp])
    width = 16
    row_sharded = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    replicated, group_sharded = sharding.named(mesh), sharding.named(mesh, "group")
    stack = jax.ShapeDtypeStruct((iterations, width, width), jnp.float32, sharding=row_sharded)
    rows = jax.ShapeDtypeStruct((fsdp, width), jnp.float32, sharding=group_sharded)

    def run(stack, rows):
        def apply(x, matrix):
            return jnp.tanh(x @ jax.lax.with_sharding_constraint(matrix, replicated)), None

        return jax.lax.scan(apply, rows, stack)[0]

    compiled = jax.jit(run, out_shardings=group_sharded).lower(stack, rows).compile()
    collectives = profile(compiled.as_text()).collectives
    assert set(collectives) == {"all-gather"}
    assert collectives["all-gather"].sent == iterations * width * width * 4 * (fsdp - 1) // fsdp


def test_unknown_estimates_count_as_zero_cycles():
    """If it has no estimate, the compiler writes the largest 64-bit integer."""
    unknown = f'"estimated_cycles":"{2**63 - 1}"'
    program = PROGRAM.replace('"estimated_cycles":"30"', unknown)
    assert program != PROGRAM
    assert profile(program).cycles == profile(PROGRAM.replace('cycles":"30"', 'cycles":"0"')).cycles
