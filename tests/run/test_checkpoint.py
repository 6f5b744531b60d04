"""Checkpoints are restored bit for bit, on other meshes and after kills."""

import os
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dvaojax.errors import UserError
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.saved_checkpoints import SavedCheckpoints


class SavedState(NamedTuple):
    params: dict
    optimizer: optax.OptState
    aggregator: tuple
    key: jax.Array
    nothing: None


def make_state(seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    params = {
        "dense": jax.random.normal(keys[0], (8, 4)),
        "small": jax.random.normal(keys[1], (3,), jnp.bfloat16),
        "count": jnp.array(seed + 7, jnp.int32),
        "flags": jnp.array([True, False, True]),
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45], jnp.float32),
        "none": jnp.zeros((0, 5)),
    }
    floats = {name: params[name] for name in ("dense", "small")}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)).init(floats)
    return SavedState(params, optimizer, (), keys[2:], None)


def bits(tree):
    """Every leaf as bytes with its shape and dtype, including random keys."""

    def leaf_bits(leaf):
        data = (
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )
        return np.asarray(data).tobytes(), leaf.shape, str(leaf.dtype)

    return [leaf_bits(leaf) for leaf in jax.tree.leaves(tree)]


def template(tree):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def mesh(*shape):
    return Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), ("data", "fsdp"))


def test_restores_every_array_and_record_bit_for_bit(tmp_path):
    state, extra = make_state(), {"position": {"epoch": 2, "index": 17}, "skipped": 0, "x": 0.1}
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, state, extra=extra)
    with Checkpoints(tmp_path / "c") as checkpoints:  # as another process would
        assert checkpoints.latest_step == 3
        restored, same = checkpoints.restore(template(state))
        again, _ = checkpoints.restore(state, step=3)
    assert same == extra
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert bits(restored) == bits(state) == bits(again)
    assert jax.random.key_impl(restored.key) == jax.random.key_impl(state.key)
    np.testing.assert_array_equal(jax.random.bits(restored.key[0]), jax.random.bits(state.key[0]))


def test_restores_into_the_shardings_of_the_template_on_another_mesh(tmp_path):
    narrow, wide = mesh(2, 1), mesh(2, 4)
    array, keys = (
        jax.random.normal(jax.random.key(1), (8, 4)),
        jax.random.split(jax.random.key(2), 8),
    )
    state = {
        "matrix": jax.device_put(array, NamedSharding(narrow, P("data"))),
        "keys": jax.device_put(keys, NamedSharding(narrow, P("data"))),
    }
    shardings = {
        "matrix": NamedSharding(wide, P("fsdp", "data")),
        "keys": NamedSharding(wide, P(("data", "fsdp"))),
    }
    target = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        shardings,
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, extra={})
        restored, _ = checkpoints.restore(target)
    assert bits(restored) == bits(state)
    for name, sharding in shardings.items():
        assert restored[name].sharding.is_equivalent_to(sharding, restored[name].ndim)
    assert {shard.data.shape for shard in restored["matrix"].addressable_shards} == {(2, 2)}


@pytest.mark.slow
def test_donation_after_save_does_not_change_the_checkpoint(tmp_path):
    spread = NamedSharding(mesh(2, 4), P(("data", "fsdp")))
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0.5 - 1.0, tree), donate_argnums=0)
    state = {
        "replicated": jnp.arange(4_000_000, dtype=jnp.float32),
        "sharded": jax.device_put(jnp.arange(4_000_000, dtype=jnp.float32), spread),
    }
    control = jax.tree.map(jnp.copy, state)
    step(control)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(control))
    expected = {}
    with Checkpoints(tmp_path, keep_latest=3) as checkpoints:
        for number in range(3):
            expected[number] = bits(jax.tree.map(jnp.copy, state))
            checkpoints.save(number, state, extra={})
            for _ in range(3):  # reuses the buffers that are being written
                state = step(state)
        for number in range(3):
            assert bits(checkpoints.restore(template(state), step=number)[0]) == expected[number]


def test_keeps_the_newest_and_the_best(tmp_path):
    rewards = {1: 0.1, 2: 0.9, 3: 0.2, 4: float("nan"), 5: 0.4, 6: 0.3}
    with Checkpoints(tmp_path, keep_latest=2, best_metric="reward") as checkpoints:
        for step, reward in list(rewards.items())[:4]:
            state = {"x": jnp.full((2,), step)}
            checkpoints.save(step, state, extra={"step": step}, metrics={"reward": reward})
    with Checkpoints(tmp_path, keep_latest=2, best_metric="reward") as checkpoints:
        for step, reward in list(rewards.items())[4:]:
            state = {"x": jnp.full((2,), step)}
            checkpoints.save(step, state, extra={"step": step}, metrics={"reward": reward})
        assert (checkpoints.best_step, checkpoints.latest_step) == (2, 6)
        state = {"x": jnp.zeros((2,), int)}
        for step in (2, 5, 6):
            restored, extra = checkpoints.restore(state, step=step)
            assert extra == {"step": step}
            np.testing.assert_array_equal(restored["x"], [step, step])
        with pytest.raises(UserError, match=r"no checkpoint of step 4 in .*; saved: \[2, 5, 6\]"):
            checkpoints.restore(state, step=4)
        with pytest.raises(KeyError, match="reward"):
            checkpoints.save(7, state, extra={})


def test_ignores_a_step_that_is_already_saved(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.zeros(2)}, extra={})
        checkpoints.save(1, {"x": jnp.zeros(2)}, extra={})
        assert checkpoints.latest_step == 1


KILLED = """
import sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from dvaojax.run.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep_latest=1)
for step in (1, 2):
    numbers = np.random.default_rng(step).standard_normal(15_000_000, np.float32)
    state = {"x": jnp.asarray(numbers)}
    checkpoints.wait()
    checkpoints.save(step, state, extra={"step": step})
print("saving", flush=True)
checkpoints.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15])
def test_kill_while_saving_leaves_a_complete_checkpoint(tmp_path, delay):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    assert child.stdout is not None
    with child.stdout as output:
        assert output.readline() == b"saving\n"
        time.sleep(delay)
        child.kill()
    child.wait()
    empty = {"x": jnp.zeros(15_000_000)}
    with Checkpoints(tmp_path, keep_latest=1) as checkpoints:
        restored, extra = checkpoints.restore(empty)
        # A later kill may come after the second save was complete.
        assert extra["step"] == 1 if delay == 0.0 else extra["step"] in (1, 2)
        assert extra["step"] == checkpoints.latest_step
        generator = np.random.default_rng(extra["step"])
        expected = generator.standard_normal(15_000_000, np.float32)
        np.testing.assert_array_equal(restored["x"], expected)
        checkpoints.save(
            3, empty, extra={"step": 3}
        )  # the incomplete checkpoint does not interfere
    with Checkpoints(tmp_path, keep_latest=1) as checkpoints:
        assert checkpoints.latest_step == 3
        assert bits(checkpoints.restore(empty)[0]) == bits(empty)


def test_names_the_array_that_differs_from_the_template(tmp_path):
    state = {"layer": {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)}}
    with Checkpoints(tmp_path / "empty") as checkpoints:
        assert checkpoints.latest_step is None
        with pytest.raises(UserError, match=r"there is no checkpoint in .*empty"):
            checkpoints.restore(state)
    with Checkpoints(tmp_path / "full") as checkpoints:
        checkpoints.save(1, state, extra={})
        wrong = {
            r"layer/w with shape \[2, 3\]; this run's state has \[2, 4\]": {
                "layer": {"w": jnp.zeros((2, 4)), "b": jnp.zeros(3)}
            },
            "layer/w with dtype float32; this run's state has bfloat16": {
                "layer": {"w": jnp.zeros((2, 3), jnp.bfloat16), "b": jnp.zeros(3)}
            },
            "lacks layer/c, which this run's state has": {
                "layer": {**state["layer"], "c": jnp.ones(1)}
            },
            "holds layer/b, which this run's state does not have": {
                "layer": {"w": state["layer"]["w"]}
            },
        }
        for message, other in wrong.items():
            with pytest.raises(UserError, match=message):
                checkpoints.restore(other)
        with pytest.raises(TypeError, match=r"^layer is a float"):
            checkpoints.save(2, {"layer": 1.0}, extra={})


@pytest.mark.parametrize("item", ["arrays", "record"])
def test_names_a_damaged_checkpoint_and_the_other_steps(tmp_path, item):
    state = {"x": jnp.arange(1000.0)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, extra={})
        checkpoints.save(2, state, extra={})
    for path in (tmp_path / "2" / item).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(
            UserError, match=r"2 is damaged \(.*; other steps saved: \[1\]"
        ) as error:
            checkpoints.restore(state)
        assert "\n" not in str(error.value)
        assert bits(checkpoints.restore(state, step=1)[0]) == bits(state)


def test_reading_does_not_change_the_directory_of_an_active_run(tmp_path):
    with Checkpoints(tmp_path, best_metric="merit") as writer:
        for step in (1, 2):
            metrics = {"merit": -float(step)}
            writer.save(step, {"x": jnp.arange(3.0) * step}, extra={"n": step}, metrics=metrics)
        writer.wait()
        unfinished = tmp_path / "3.orbax-checkpoint-tmp"
        unfinished.mkdir()
        before = sorted(tmp_path.rglob("*"))
        reader = SavedCheckpoints(tmp_path, best_metric="merit")
        assert (reader.latest_step, reader.best_step) == (2, 1)
        state, extra = reader.restore({"x": jnp.zeros(3)}, step=1)
        assert sorted(tmp_path.rglob("*")) == before
    assert extra == {"n": 1}
    assert state["x"].tolist() == [0.0, 1.0, 2.0]


def test_reading_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        SavedCheckpoints(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_restores_a_part_of_the_state(tmp_path):
    state = make_state()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"state": state}, extra={})
        part = {"state": {"params": template(state.params)}}
        assert bits(checkpoints.restore_part(part)) == bits(state.params)
        assert bits(checkpoints.restore_part({"state": {"key": template(state.key)}})) == bits(
            state.key
        )
        wrong = {"dense": jax.ShapeDtypeStruct((4, 8), jnp.float32)}
        with pytest.raises(UserError, match="holds state/params/dense with shape"):
            checkpoints.restore_part({"state": {"params": wrong}})
        with pytest.raises(UserError, match="lacks state/params/sparse"):
            checkpoints.restore_part({"state": {"params": {"sparse": wrong["dense"]}}})
        with pytest.raises(UserError, match="no checkpoint of step 4"):
            checkpoints.restore_part(part, step=4)
