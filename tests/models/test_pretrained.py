"""Checkpoints written by `transformers`: loading gives its logits, writing gives its files."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import published
import pytest
import torch
import transformers
from decoder_oracle import QWEN3, random_groups, random_params
from safetensors.torch import load_file, save_file

from dvaojax import models, sharding
from dvaojax.config.from_json import from_json
from dvaojax.errors import UserError
from dvaojax.models import ModelConfig, RopeScaling, pretrained
from dvaojax.models.pretrained import configuration
from dvaojax.run.description import config_to_json
from dvaojax.sharding import MeshConfig

FLOAT32 = {"compute_dtype": "float32", "remat": "none"}


@pytest.fixture(scope="module")
def one_device():
    return sharding.make_mesh(MeshConfig(), jax.devices()[:1])


@pytest.fixture
def saved(tmp_path):
    """The path of a checkpoint that the test may modify, and the decoder that wrote it."""
    model = published.make("qwen3 grouped tied")
    return published.save(model, tmp_path / "checkpoint"), model


def our_logits(config, params, groups):
    @jax.jit
    def forward(params):
        model = models.apply(config, params)
        return model.logits(model(*groups))

    return np.asarray(forward(params))


@pytest.mark.parametrize("shape", published.SHAPES)
def test_loading_gives_the_same_logits_and_writing_the_same_tensors(shape, tmp_path, one_device):
    model = published.make(shape)
    # Every other shape is read from several files and written as one, the others the other way.
    sizes = [6_000, 10**9][:: 1 if list(published.SHAPES).index(shape) % 2 else -1]
    path = published.save(model, tmp_path / "read", max_shard_size=f"{sizes[0] // 1000}KB")
    assert Path(path, "model.safetensors.index.json").exists() == (sizes[0] == 6_000)
    config = pretrained.model_config(path, **FLOAT32)
    params = pretrained.load(path, config, mesh=one_device)

    groups = random_groups(config, lengths=[30, 1, 7], width=31, group_size=2, completion_length=4)
    expected = published.logits_of_completions(model, groups)
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(our_logits(config, params, groups), expected, atol=1e-4)

    directory = tmp_path / "written"
    directory.mkdir()
    description = configuration.make_description(config, str(directory))
    written = pretrained.write(
        directory, params, config, description, dtype="float32", max_file_bytes=sizes[1]
    )
    assert all(file.stat().st_size < sizes[1] + 4000 for file in written)
    assert (len(written) > 1) == (sizes[1] == 6_000)
    tensors = {name: values for file in written for name, values in load_file(file).items()}
    assert tensors.keys() == model.state_dict().keys() - (
        {"lm_head.weight"} if config.tied_head else set()
    )
    for name, values in tensors.items():
        assert torch.equal(values, model.state_dict()[name]), name
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(directory)
    assert type(reloaded) is type(model)
    assert np.array_equal(published.logits_of_completions(reloaded, groups), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files_are_read_exactly(dtype, tmp_path, one_device):
    model = published.make("qwen2 grouped tied", dtype=dtype)
    path = published.save(model, tmp_path)
    config = pretrained.model_config(path)
    params = pretrained.load(path, config, mesh=one_device)
    chex.assert_type(jax.tree.leaves(params), np.float32)
    embedding = model.get_input_embeddings().weight.detach().float().numpy()
    assert np.array_equal(params["embedding"], embedding)
    key = model.model.layers[1].self_attn.k_proj.weight.detach().float().numpy()
    assert np.array_equal(params["layers"]["key"][1].reshape(config.width, -1), key.T)
    # With `param_dtype` of the file, the parameters keep it.
    if dtype == torch.bfloat16:
        half = dataclasses.replace(config, param_dtype="bfloat16")
        kept = pretrained.load(path, half, mesh=one_device)
        chex.assert_type(jax.tree.leaves(kept), jax.numpy.bfloat16)
        chex.assert_trees_all_equal(jax.tree.map(lambda a: a.astype(np.float32), kept), params)


@pytest.mark.parametrize("sizes", [{"fsdp": 2, "tensor": 2, "data": 2}, {"fsdp": 8}])
def test_parameters_are_loaded_into_their_shards(sizes, tmp_path, one_device):
    model = published.make("qwen3 grouped tied", vocab_size=64, tie_word_embeddings=False)
    path = published.save(model, tmp_path, max_shard_size="6KB")
    config = pretrained.model_config(path)
    mesh = sharding.make_mesh(MeshConfig(**sizes))
    params = pretrained.load(path, config, mesh=mesh)
    shardings = sharding.shardings(mesh, params, models.logical_axes)
    jax.tree.map(
        lambda a, where: chex.assert_equal(a.sharding.is_equivalent_to(where, a.ndim), True),
        params,
        shardings,
    )
    assert not params["layers"]["query"].is_fully_replicated
    chex.assert_trees_all_equal(params, pretrained.load(path, config, mesh=one_device))


# Reading of config.json.

SHAPE = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "intermediate_size": 8192,
}
SCALED = {**published.LLAMA3_ROPE, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("spelling", "theta", "is_scaled"),
    [
        ({}, 10_000.0, False),
        ({"rope_theta": 5e5}, 5e5, False),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, False),
        ({"rope_theta": 5e5, "rope_scaling": SCALED}, 5e5, True),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, False),
        ({"rope_parameters": {"rope_theta": 5e5, **SCALED}}, 5e5, True),
        # Older files have the key `type`, and the original length may be given as the maximum.
        (
            {
                "rope_theta": 5e5,
                "max_position_embeddings": 8192,
                "rope_scaling": {
                    "type": "llama3",
                    "factor": 8,
                    "low_freq_factor": 1,
                    "high_freq_factor": 4,
                },
            },
            5e5,
            True,
        ),
    ],
)
def test_reads_every_spelling_of_the_rotary_settings(spelling, theta, is_scaled):
    config = configuration.parse_description({**SHAPE, **spelling}, "m")
    scaling = RopeScaling(8.0, slow_turns=1.0, fast_turns=4.0, original_length=8192)
    assert (config.rope_theta, config.rope_scaling) == (theta, scaling if is_scaled else None)
    # `transformers` reads the same.
    theirs = transformers.LlamaConfig(**{"rope_theta": theta} | SHAPE | spelling).rope_parameters
    assert theirs["rope_theta"] == theta
    assert (theirs["rope_type"] == "llama3") == is_scaled
    assert not is_scaled or theirs["original_max_position_embeddings"] == 8192


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_defaults_are_those_of_transformers(kind):
    sparse = {**SHAPE, "model_type": kind, "num_key_value_heads": None}
    config = configuration.parse_description(sparse, "m")
    theirs = published._CLASSES[kind][0](**sparse)
    assert config.num_kv_heads == theirs.num_key_value_heads == 32
    assert config.head_width == getattr(theirs, "head_dim", 2048 // 32)
    assert config.norm_epsilon == theirs.rms_norm_eps
    assert config.tied_head == theirs.tie_word_embeddings
    assert config.rope_theta == theirs.rope_parameters["rope_theta"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "model_type='mistral'; supported are: qwen2, qwen3, llama"),
        ({"model_type": ...}, "model_type=None; supported are"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            r"architectures=\['LlamaForSequenceClassification'\], not \['LlamaForCausalLM'\]",
        ),
        ({"hidden_size": ...}, "lacks hidden_size"),
        ({"vocab_size": "61"}, "vocab_size='61', which is not a positive integer"),
        ({"num_key_value_heads": 5}, "num_kv_heads=5 must divide num_heads=32"),
        ({"head_dim": 7}, "head_width=7 must be even"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'; the decoder supports only 'silu'"),
        ({"attention_bias": True}, "attention_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling of type 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope_parameters of type 'dynamic'"),
        (
            {"rope_scaling": {**SCALED, "factor": None}},
            "rope_scaling has factor=None, which is not",
        ),
        ({"rope_scaling": {**SCALED, "factor": -1}}, "rope_scaling has factor=-1, which is not a"),
        (
            {"rope_parameters": {"full_attention": {}}},
            "only one setting for all layers is supported",
        ),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types=.*sliding window"),
        (
            {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 8},
            "use_sliding_window=True; .* without a sliding window",
        ),
    ],
)
def test_rejects_unsupported_settings_and_names_their_key(change, message):
    description = {k: v for k, v in {**SHAPE, **change}.items() if v is not ...}
    with pytest.raises(UserError, match=f"^m: config.json.*{message}"):
        configuration.parse_description(description, "m")


def test_accepts_a_sliding_window_that_no_layer_uses():
    disabled = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 0}
    no_layer = {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 16}
    expected = configuration.parse_description({**SHAPE, "model_type": "qwen2"}, "m")
    for window in (disabled, no_layer):
        config = configuration.parse_description({**SHAPE, "model_type": "qwen2", **window}, "m")
        assert config == expected


def test_every_field_is_from_the_checkpoint_or_from_the_run():
    from_run = {
        *("param_dtype", "compute_dtype", "remat", "layer_loop", "attention"),
        *("decode_attention", "logits_chunk", "logits_backward"),
    }
    assert set(configuration.CHECKPOINT_FIELDS) | from_run == {
        f.name for f in dataclasses.fields(ModelConfig)
    }


def test_rope_scaling_is_recorded_with_a_run():
    config = configuration.parse_description({**SHAPE, "rope_scaling": SCALED}, "m")
    recorded = json.loads(json.dumps(config_to_json(config)))
    assert from_json(ModelConfig, recorded, key="model") == config


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 32), ("rope_theta", 1.0), ("tied_head", False), ("qk_norm", False)],
)
def test_rejects_a_configuration_of_another_decoder(field, value, saved):
    config = dataclasses.replace(pretrained.model_config(saved[0]), **{field: value})
    with pytest.raises(UserError, match=rf"^model.{field}={value}, but config.json of .* has"):
        pretrained.check(saved[0], config)


# Invalid checkpoints.

QUERY = "model.layers.1.self_attn.q_proj.weight"


def replaced(tensors, change):
    return {**{k: v for k, v in tensors.items() if k not in change}, **change}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({QUERY: None}, rf"lacks the tensor {QUERY} of shape \[40, 24\]"),
        ({QUERY: torch.zeros(24, 40)}, rf"{QUERY} has shape \[24, 40\], not \[40, 24\]"),
        ({QUERY: torch.zeros(40, 24, dtype=torch.int8)}, f"{QUERY} has dtype I8, not one of F32"),
        (
            {"model.layers.3.mlp.up_proj.weight": torch.zeros(20, 24)},
            "contains the tensor model.layers.3.mlp.up_proj.weight.*does not belong.*up_proj",
        ),
        (
            {"model.layers.0.self_attn.q_proj.bias": torch.zeros(40)},
            "contains the tensor model.layers.0.self_attn.q_proj.bias",
        ),
        (
            {"lm_head.weight": torch.zeros(61, 24)},
            "tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens",
        ),
    ],
)
def test_names_a_missing_or_wrong_tensor(change, message, saved, one_device):
    path, _ = saved
    file = f"{path}/model.safetensors"
    tensors = replaced(load_file(file), change)
    save_file({k: v for k, v in tensors.items() if v is not None}, file)
    with pytest.raises(UserError, match=message) as error:
        pretrained.load(path, pretrained.model_config(path), mesh=one_device)
    assert "\n" not in str(error.value)


def test_accepts_constants_and_a_stored_tied_head(saved):
    path, model = saved
    file = f"{path}/model.safetensors"
    embedding = model.get_input_embeddings().weight.detach().clone()
    extra = {
        "lm_head.weight": embedding,
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(5),
    }
    save_file(replaced(load_file(file), extra), file)
    pretrained.check(path, pretrained.model_config(path))


def test_detects_a_truncated_file_at_any_position(saved):
    path, _ = saved
    file = Path(path, "model.safetensors")
    whole = file.read_bytes()
    config = pretrained.model_config(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    ends = {}
    for name, entry in json.loads(whole[8:header]).items():
        if name != "__metadata__":
            ends[name] = header + entry["data_offsets"][1]
    for end in (0, 7, 8, header - 1, header, header + 100, len(whole) - 1):
        file.write_bytes(whole[:end])
        with pytest.raises(UserError, match="is truncated") as error:
            pretrained.check(path, config)
        if end >= header:
            named = next(name for name in ends if f": {name} ends" in str(error.value))
            assert ends[named] > end
    file.write_bytes(whole)
    pretrained.check(path, config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x02" + bytes(7) + b"{]", "its header is not a JSON object"),
        (b"\x02" + bytes(7) + b"[]", "its header is not a JSON object"),
        (b"\x0b" + bytes(7) + b'{"a": null}', "has no valid dtype, shape and data_offsets of a"),
        (
            b"\x3a" + bytes(7) + b'{"a": {"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}    ',
            "has no valid dtype, shape and data_offsets of a",
        ),
        (
            b"\x3a" + bytes(7) + b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,4]}}     ',
            r"a has 4 bytes, which does not match F32\[2\]",
        ),
        (
            b"PK\x03\x04 a pickle in an archive",
            "truncated in its header, or is not a safetensors file",
        ),
    ],
)
def test_rejects_invalid_safetensors_files(content, message, saved):
    Path(saved[0], "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message):
        pretrained.check(saved[0], pretrained.model_config(saved[0]))


def test_rejects_an_index_that_does_not_match_its_files(tmp_path):
    model = published.make("qwen3 grouped tied")
    path = published.save(model, tmp_path, max_shard_size="6KB")
    config = pretrained.model_config(path)
    index = tmp_path / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    file = whole["weight_map"][QUERY]
    other = next(name for name in whole["weight_map"].values() if name != file)

    def error_with(**files):
        index.write_text(json.dumps({**whole, "weight_map": {**whole["weight_map"], **files}}))
        with pytest.raises(UserError) as error:
            pretrained.check(path, config)
        return str(error.value)

    assert f"{other} lacks {QUERY}, which" in error_with(**{QUERY: other})
    assert "has no regular file gone.safetensors, which" in error_with(
        **{QUERY: "gone.safetensors"}
    )
    assert "'../x' is not the name of a file in its directory" in error_with(**{QUERY: "../x"})
    index.write_text("{}")
    with pytest.raises(UserError, match="has no weight_map"):
        pretrained.check(path, config)
    index.unlink()
    with pytest.raises(UserError, match=r"has neither model.safetensors nor .*index.json"):
        pretrained.check(path, config)
    with pytest.raises(UserError, match=r"config.json: No such file"):
        pretrained.model_config(str(tmp_path.parent))


# Writing.


def test_writes_half_precision_if_requested(tmp_path):
    config = dataclasses.replace(QWEN3, tied_head=False)
    params = random_params(config)
    description = configuration.make_description(config, str(tmp_path))
    pretrained.write(tmp_path, params, config, description, dtype="bfloat16")
    head = load_file(tmp_path / "model.safetensors")["lm_head.weight"]
    assert torch.equal(head, torch.tensor(params["head"].T.copy()).bfloat16())
    read = transformers.AutoConfig.from_pretrained(tmp_path)
    assert (read.dtype, read.head_dim) == (torch.bfloat16, 6)


def test_rejects_exporting_a_decoder_of_no_published_family():
    config = dataclasses.replace(QWEN3, attention_bias=True)
    with pytest.raises(UserError, match=r"no published family has model.qk_norm=True with"):
        configuration.make_description(config, "there")


MEASURED = """
import sys
from pathlib import Path
import jax
from dvaojax import sharding
from dvaojax.models import pretrained
from dvaojax.sharding import MeshConfig

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

small, large = sys.argv[1:]
mesh = sharding.make_mesh(MeshConfig(fsdp=2, data=1), jax.devices()[:2])
pretrained.load(small, pretrained.model_config(small), mesh=mesh)  # initialises JAX
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
config = pretrained.model_config(large)
params = pretrained.load(large, config, mesh=mesh)
print(status("VmHWM") - before, sum(a.nbytes for a in jax.tree.leaves(params)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="cannot measure peak memory")
def test_peak_memory_is_the_parameters_and_one_tensor(tmp_path):
    paths = []
    for name, scale in (("small", 1), ("large", 8)):
        shape = {
            "hidden_size": 32 * scale,
            "intermediate_size": 128 * scale,
            "vocab_size": 1024 * scale,
            "num_hidden_layers": 24,
            "head_dim": 8 * scale,
        }
        model = published.make("qwen3 grouped tied", **shape)
        paths.append(published.save(model, tmp_path / name, max_shard_size="20MB"))
        largest = max(p.nbytes for p in model.parameters())
    assert largest == 8 * 2**20
    environment = {
        "PATH": "",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "MALLOC_MMAP_THRESHOLD_": "65536",  # freed memory is returned at once
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *paths], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    peak, parameters = map(int, done.stdout.split())
    # 8 MiB for compiled programs. A second stacked matrix of 24 MiB, or a whole file of the
    # checkpoint, 20 MiB, would exceed the bound.
    print(f"peak {peak / 2**20:.0f} MiB, parameters {parameters / 2**20:.0f} MiB")
    assert peak < parameters + largest + 8 * 2**20
