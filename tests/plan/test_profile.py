"""Time, collectives and loops of compiled programs: hand-counted programs, and real ones."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax import sharding
from dvaojax.plan.collectives import Collective, Links
from dvaojax.plan.costs import GpuCost, TpuCost
from dvaojax.plan.profile import DecodeLoop, profile
from dvaojax.sharding import MeshConfig

ONE = Links(bandwidth=1.0)
TPU = TpuCost(ONE, clock=1.0, memory_bandwidth=1.0, flops=1.0, pairs=10.0)
GPU = GpuCost(ONE, memory_bandwidth=1.0, flops=1e3)

# A loop of two iterations, then one of five (2 to 7), a fused reduce-scatter, a conditional, an
# asynchronous gather, a permutation.
PROGRAM = """HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %fusion.1 = f32[8,4]{1,0} fusion(%x), calls=%inner, backend_config={"estimated_cycles":"100"}
  %ar = f32[8,4]{1,0:T(8,128)} all-reduce(%fusion.1), replica_groups={{0,1,2,3}}, to_apply=%add
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%i, %one)
  ROOT %t = (s32[]{:T(128)}, f32[8,4]{1,0:T(8,128)}) tuple(%next, %ar)
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
    counted = profile(PROGRAM, TPU)
    assert counted.seconds == 7 * 100 + 30
    assert counted.collectives == {
        "all-reduce": Collective(7, 7 * 2 * 128 * 3 // 4, 1344.0),
        "reduce-scatter": Collective(1, 32 * 3 // 4, 24.0),
        "all-gather": Collective(1, 32 * 3 // 4, 24.0),
        "collective-permute": Collective(1, 24, 24.0),
    }
    assert counted.sent == counted.link_seconds == 1344 + 24 + 24 + 24


def test_program_without_collectives():
    compiled = jax.jit(lambda x: x * 2.0).lower(jnp.ones(8)).compile()
    assert profile(compiled.as_text(), TPU).collectives == {}


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
    collectives = profile(compiled.as_text(), TPU).collectives
    assert set(collectives) == {"all-gather"}
    assert collectives["all-gather"].sent == iterations * width * width * 4 * (fsdp - 1) // fsdp


def test_unknown_estimates_count_as_zero_cycles():
    """If it has no estimate, the compiler writes the largest 64-bit integer."""
    unknown = f'"estimated_cycles":"{2**63 - 1}"'
    program = PROGRAM.replace('"estimated_cycles":"30"', unknown)
    assert program != PROGRAM
    without = PROGRAM.replace('cycles":"30"', 'cycles":"0"')
    assert profile(program, TPU).seconds == profile(without, TPU).seconds == 720


def loop(name, end, limit="LT"):
    """A loop that ends with a column, or earlier if nothing is active, as those of the sampler."""
    return f"""
%{name} (p: (s32[], f32[8], s32[])) -> pred[] {{
  %p = (s32[], f32[8], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] constant({end})
  %early = pred[] compare(%i, %limit), direction={limit}
  %active = s32[] get-tuple-element(%p), index=2
  %none = s32[] constant(0)
  %some = pred[] compare(%active, %none), direction=GT
  ROOT %both = pred[] and(%early, %some)
}}
"""


TURN = """
%add_one (a: s32[], b: s32[]) -> s32[] {
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %sum = s32[] add(%a, %b)
}

%turn (p: (s32[], f32[8], s32[])) -> (s32[], f32[8], s32[]) {
  %p = (s32[], f32[8], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %one = s32[] constant(1)
  %next = s32[] fusion(%i, %one), kind=kLoop, calls=%add_one
  %x = f32[8] get-tuple-element(%p), index=1
  %y = f32[8] fusion(%x), calls=%inner, backend_config={"estimated_cycles":"10"}
  %active = s32[] get-tuple-element(%p), index=2
  %left = s32[] custom-call(%active), custom_call_target="count"
  ROOT %t = (s32[], f32[8], s32[]) tuple(%next, %y, %left)
}
"""
MAIN = """
ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8] parameter(0)
  %two = s32[] constant(2)
  %all = s32[] constant(4)
  %begin = (s32[], f32[8], s32[]) tuple(%two, %a, %all)
BODY
  ROOT %out = f32[8] get-tuple-element(%last), index=1
}
"""
STATE = "(s32[], f32[8], s32[])"


def test_loops_one_after_the_other_share_their_counter():
    """Two stages: the whole group until column 8, then what is left of it; then to 20."""
    smaller = f"""
%run (p: {STATE}) -> {STATE} {{
  %p = {STATE} parameter(0)
  ROOT %w = {STATE} while(%p), condition=%to_8, body=%turn
}}

%stay (p: {STATE}) -> {STATE} {{
  ROOT %p = {STATE} parameter(0)
}}
"""
    body = f"""
  %first = {STATE} while(%begin), condition=%to_8, body=%turn
  %small = {STATE} conditional(%k, %first, %first), branch_computations={{%stay, %run}}
  %copied = {STATE} copy(%small)
  %last = {STATE} while(%copied), condition=%to_20, body=%turn"""
    program = loop("to_8", 8) + loop("to_20", 19, "LE") + TURN + smaller
    counted = profile(program + MAIN.replace("BODY", body), TPU)
    assert counted.seconds == (6 + 12) * 10
    assert counted.decode_loops == (DecodeLoop(6, 1, 10.0), DecodeLoop(12, 1, 10.0))


def test_a_loop_around_loops_with_the_same_counter_runs_once():
    """An outer loop whose body runs an inner one to the same end: not the product of both."""
    outer = f"""
%switch (p: {STATE}) -> {STATE} {{
  %p = {STATE} parameter(0)
  ROOT %w = {STATE} conditional(%k, %p, %p), branch_computations={{%all, %half}}
}}
""" + "".join(
        f"""
%{name} (p: {STATE}) -> {STATE} {{
  %p = {STATE} parameter(0)
  ROOT %w = {STATE} while(%p), condition=%to_8, body=%turn
}}
"""
        for name in ("all", "half")
    )
    body = f"  %last = {STATE} while(%begin), condition=%to_8, body=%switch"
    counted = profile(loop("to_8", 8) + TURN + outer + MAIN.replace("BODY", body), TPU)
    assert counted.seconds == 6 * 10


CACHE = """
%body (p: (s32[], f32[64], f32[32])) -> (s32[], f32[64], f32[32]) {
  %p = (s32[], f32[64], f32[32]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %cache = f32[64] get-tuple-element(%p), index=1
  %prompt = f32[32] get-tuple-element(%p), index=2
  %new = f32[1] custom-call(%prompt), custom_call_target="TARGET", backend_config={}
  %written = f32[64] fusion(%cache, %new, %i), kind=kLoop, calls=%write
  %read = f32[1] custom-call(%written), custom_call_target="TARGET"
  ROOT %t = (s32[], f32[64], f32[32]) tuple(%next, %written, %prompt)
}

%write (c: f32[64], n: f32[1], at: s32[]) -> f32[64] {
  %c = f32[64] parameter(0)
  %n = f32[1] parameter(1)
  %at = s32[] parameter(2)
  ROOT %u = f32[64] dynamic-update-slice(%c, %n, %at)
}

%condition (p: (s32[], f32[64], f32[32])) -> pred[] {
  %p = (s32[], f32[64], f32[32]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %end = s32[] constant(64)
  %early = pred[] compare(%i, %end), direction=LT
  %active = pred[] custom-call(%p), custom_call_target="any"
  ROOT %both = pred[] and(%early, %active)
}

ENTRY %main (c: f32[64], q: f32[32]) -> f32[64] {
  %c = f32[64] parameter(0)
  %q = f32[32] parameter(1)
  %zero = s32[] constant(0)
  %begin = (s32[], f32[64], f32[32]) tuple(%zero, %c, %q)
  %w = (s32[], f32[64], f32[32]) while(%begin), condition=%condition, body=%body
  ROOT %out = f32[64] get-tuple-element(%w), index=1
}
"""


def test_kernels_read_caches_as_far_as_they_are_filled():
    """A prompt's cache is read whole; of the loop's own, (t + 1) of 64 in turn t."""
    by_hand = sum(4 * (32 + 1) + 4 * (turn + 1) + 4 for turn in range(64))
    on_tpu = profile(CACHE.replace("TARGET", "tpu_custom_call"), TPU)
    assert on_tpu.seconds == pytest.approx(by_hand)
    on_gpu = profile(CACHE.replace("TARGET", "kernel"), GPU)
    written = 64 * (4 + 4 + 4)  # the new entry is read and written, and the index is read
    counter = 64 * 3 * 4
    assert on_gpu.seconds == pytest.approx(by_hand + written + counter)
    assert on_gpu.decode_loops == (DecodeLoop(64, 4, pytest.approx(on_gpu.seconds / 64)),)


def test_splash_attention_counts_by_its_products():
    """Two products of 2 x 10 pairs x 8 channels, for 3 rows of 4 heads, at half the peak."""
    text = """
ENTRY %main (q: bf16[3,4,16,8]) -> bf16[3,4,16,8] {
  %q = bf16[3,4,16,8] parameter(0)
  ROOT %o = bf16[3,4,16,8] custom-call(%q), custom_call_target="tpu_custom_call", NAME
}
"""
    kernel = 'frontend_attributes={kernel_metadata={\n"blocks":"128"\n}}'  # over three lines
    text = text.replace("NAME", f'{kernel}, metadata={{op_name="vmap(f)/body/splash_mha_fwd"}}')
    fast_memory = TPU._replace(memory_bandwidth=1e9)
    assert profile(text, fast_memory).seconds == 2 * 2 * 10 * 8 * 12 / 0.5
    (operation,) = profile(text, fast_memory).operations
    assert (operation.opcode, operation.name) == ("tpu_custom_call", "splash_mha_fwd")
    assert profile(text, TPU._replace(flops=1e9)).seconds == 2 * 2 * 3 * 4 * 16 * 8  # bytes


def test_splash_attention_of_one_row_is_not_counted_by_its_table_of_blocks():
    """A single row has no axis of its own, so its queries have as many axes as the table."""
    text = """
ENTRY %main (table: s8[1,2,2], q: bf16[4,16,8]) -> bf16[4,16,8] {
  %table = s8[1,2,2] parameter(0)
  %q = bf16[4,16,8] parameter(1)
  ROOT %o = bf16[4,16,8] custom-call(%table, %q), custom_call_target="tpu_custom_call", NAME
}
"""
    text = text.replace("NAME", 'metadata={op_name="splash_mha_fwd"}')
    seconds = profile(text, TPU._replace(memory_bandwidth=1e9)).seconds
    assert seconds == 2 * 2 * 10 * 8 * 4 / 0.5


GPU_PROGRAM = """HloModule jit_f

%gemm (a: bf16[64,32], b: bf16[32,16]) -> f32[64,16] {
  %a = bf16[64,32] parameter(0)
  %b = bf16[32,16] parameter(1)
  ROOT %d = f32[64,16] dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%slice (s: f32[8,64,16], i: s32[]) -> f32[1,64,16] {
  %s = f32[8,64,16] parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  ROOT %one = f32[1,64,16] dynamic-slice(%s, %i, %z, %z), dynamic_slice_sizes={1,64,16}
}

ENTRY %main (a: bf16[64,32], b: bf16[32,16], s: f32[8,64,16], i: s32[]) -> f32[64,16] {
  %a = bf16[64,32] parameter(0)
  %b = bf16[32,16] parameter(1)
  %s = f32[8,64,16] parameter(2)
  %i = s32[] parameter(3)
  %view = bf16[2048] bitcast(%a)
  %f = f32[64,16] fusion(%a, %b), kind=kCustom, calls=%gemm
  %c = (f32[64,16], s8[4096]) custom-call(%a, %b), custom_call_target="__cublas$gemm", CONTRACTED
  %p = f32[1,64,16] fusion(%s, %i), kind=kLoop, calls=%slice
  %r.remat = f32[64,16] copy(%f)
  %fwd = (bf16[2,64,4,8], f32[2,4,64], u8[999]) custom-call(%qu, %ke, %va), FORWARD
  %qu = bf16[2,64,4,8] parameter(4)
  %ke = bf16[2,64,2,8] parameter(5)
  %va = bf16[2,64,2,8] parameter(6)
  ROOT %o = f32[64,16] get-tuple-element(%c), index=0
}
""".replace(
    "CONTRACTED", 'backend_config={"dot_numbers":{"lhs_contracting_dimensions":["1"]}}'
).replace(
    "FORWARD",
    'custom_call_target="__cudnn$fmhaSoftmax", backend_config={"mask_type":"CAUSAL"}',
)


def test_kernels_of_a_gpu_take_the_larger_of_bytes_and_products():
    counted = profile(GPU_PROGRAM, GPU)
    product_bytes, products = 2 * (64 * 32 + 32 * 16) + 4 * 64 * 16, 2 * 64 * 32 * 16
    sliced = 2 * 4 * 64 * 16 + 4
    copied = 2 * 4 * 64 * 16
    queries, keys = 2 * 2 * 64 * 4 * 8, 2 * 2 * 64 * 2 * 8
    attention = 2 * queries + 2 * keys + 4 * 2 * 4 * 64
    assert counted.seconds == 2 * product_bytes + sliced + copied + attention
    assert counted.kernels == 5
    assert counted.recomputed == 1
    assert counted.recomputed_seconds == copied
    slow = profile(GPU_PROGRAM, GpuCost(ONE, memory_bandwidth=1e12, flops=1.0))
    scores = 2 * 2 * 2 * 4 * 64 * 64 * 8 / 2  # two products, of which the mask leaves half
    assert slow.seconds == pytest.approx(2 * products + scores)


def test_links_between_hosts_are_slower():
    links = Links(bandwidth=450.0, hosts_bandwidth=50.0, devices_per_host=8)
    assert links.seconds(900.0, range(8)) == 2.0
    assert links.seconds(900.0, range(16)) == 900 / 400  # eight cards of 50
    assert links.seconds(900.0, [0, 8]) == 18.0  # one card


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{{0,8},{1,9}}", [0, 8]),
        ("[8,2]<=[2,8]T(1,0)", [0, 8]),
        ("[2,8]<=[16]", list(range(8))),
        ("mesh['x'=2,'y'=8] {'x'}", [0, 8]),
        ("mesh['x'=8,'y'=2], device_ids=([2,8]T(1,0)) {'y'}", [0, 8]),
    ],
)
def test_members_of_a_collective(groups, expected):
    text = f"""
ENTRY %main (a: f32[16]) -> f32[16] {{
  %a = f32[16] parameter(0)
  ROOT %r = f32[16] all-reduce(%a), replica_groups={groups}, to_apply=%add
}}
"""
    links = Links(bandwidth=1.0, hosts_bandwidth=0.01, devices_per_host=8)
    counted = profile(text, TPU._replace(links=links)).collectives["all-reduce"]
    share = (len(expected) - 1) / len(expected)
    seconds = links.seconds(64 * 2 * share, expected)
    assert counted == Collective(1, round(64 * 2 * share), pytest.approx(seconds))
