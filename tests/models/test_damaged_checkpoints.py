"""Damaged files of published models: one line that names the file, and nothing outside is read."""

import itertools
import json
import os
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import published
import pytest
import torch
from safetensors.numpy import load_file, save_file

from dvaojax import sharding
from dvaojax.errors import UserError
from dvaojax.models import pretrained
from dvaojax.models.pretrained import loading
from dvaojax.sharding import MeshConfig

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
QUERY = "model.layers.1.self_attn.q_proj.weight"
KEY = "model.layers.1.self_attn.k_proj.weight"
DEEP = "[" * 100_000
NUL, UP = "a\0b.safetensors", ".."


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directories of one checkpoint as a single file and as several."""
    model = published.make("qwen3 grouped tied")
    return {
        size: Path(published.save(model, tmp_path_factory.mktemp(size), max_shard_size=size))
        for size in ("1GB", "6KB")
    }


@pytest.fixture
def damaged(whole, tmp_path):
    """Factory of copies of the checkpoint, changed by a function of the directory."""
    count = itertools.count()

    def make(change, size="1GB"):
        directory = tmp_path / str(next(count))
        shutil.copytree(whole[size], directory)
        change(directory)
        return str(directory)

    return make


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(MeshConfig(), jax.devices()[:1])


def write_header(directory, text, data=b""):
    text = text if isinstance(text, bytes) else text.encode()
    (directory / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + data)


def with_entries(**changes):
    """Replaces fields of the header's entry of `QUERY`."""

    def change(directory):
        content = (directory / SINGLE).read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        header[QUERY].update(changes)
        write_header(directory, json.dumps(header), content[end:])

    return change


def repeated_name(directory):
    content = (directory / SINGLE).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    entry = json.dumps(json.loads(content[8:end])[QUERY])
    text = content[8:end].strip()[:-1].decode() + f', "{QUERY}": {entry}}}'
    write_header(directory, text, content[end:])


def appended(directory):
    with (directory / SINGLE).open("ab") as file:
        file.write(b"more")


def offsets_of_another(directory):
    content = (directory / SINGLE).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    query = header[QUERY]
    twin = next(
        entry
        for name, entry in header.items()
        if name not in ("__metadata__", QUERY) and entry["shape"] == query["shape"]
    )
    query["data_offsets"] = twin["data_offsets"]
    write_header(directory, json.dumps(header), content[end:])


def with_index(value):
    """Replaces the single file by an index."""

    def change(directory):
        (directory / SINGLE).rename(directory.parent / "outside.safetensors")
        text = value if isinstance(value, str) else json.dumps({"weight_map": value})
        (directory / INDEX).write_text(text)

    return change


def with_pipe(name):
    def change(directory):
        (directory / name).unlink()
        os.mkfifo(directory / name)

    return change


DAMAGED = {
    "header nested": (lambda d: write_header(d, DEEP), "not a safetensors file"),
    "header nested in a value": (lambda d: write_header(d, '{"a":' * 99_999), "not a safetensors"),
    "header of 2**64 - 1 bytes": (
        lambda d: (d / SINGLE).write_bytes(b"\xff" * 8 + b"{}"),
        "is truncated in its header",
    ),
    "name twice": (repeated_name, f"in its header the key {QUERY!r} is repeated"),
    "bytes after the end": (appended, "damaged: 4 bytes after the last tensor are unused"),
    "two tensors at one place": (offsets_of_another, "damaged: .* (overlaps|follows unused)"),
    "dtype a list": (with_entries(dtype=["F32"]), f"{QUERY} has dtype"),
    "thousands of axes": (with_entries(shape=[1] * 9999), f"no valid dtype, shape.* {QUERY}"),
    "shape of true": (with_entries(shape=[True, True]), f"no valid dtype, shape.* {QUERY}"),
    "index with NUL": (with_index({"a": NUL}), "'a.*' is not the name of a file"),
    "index up": (with_index({"a": UP}), "'..' is not the name of a file"),
    "index outside": (with_index({"a": "../outside.safetensors"}), "is not the name of a file"),
    "index of a long name": (with_index({"a": "é" * 1000}), "is not the name of a file"),
    "index of a lone surrogate": (with_index({"a": "\ud800"}), "is not the name of a file"),
    "index of a number": (with_index({"a": 5}), "5 is not the name of a file"),
    "index of a list": (with_index({"a": ["b"]}), r"\['b'\] is not the name of a file"),
    "index of null": (with_index({"a": None}), "None is not the name of a file"),
    "index of itself": (with_index({"a": INDEX}), "has no regular file"),
    "index of config": (with_index({"a": CONFIG}), "has no regular file"),
    "index of its directory": (with_index({"a": "."}), "is not the name of a file"),
    "index nested": (with_index(DEEP), "is not JSON: it is nested too deeply"),
    "index a list": (with_index("[]"), "has no weight_map"),
    "weights a pipe": (with_pipe(SINGLE), f"has neither {SINGLE} nor {INDEX}"),
    "config a pipe": (with_pipe(CONFIG), "config.json is not a regular file"),
    "config nested": (lambda d: (d / CONFIG).write_text(DEEP), "nested too deeply"),
    "config in UTF-16": (lambda d: (d / CONFIG).write_text("{", "utf-16-be"), "is not JSON"),
    "config a list": (lambda d: (d / CONFIG).write_text("[]"), "is not a JSON object"),
}


def test_damaged_files_give_one_line(damaged):
    for kind, (change, message) in DAMAGED.items():
        path = damaged(change)
        with pytest.raises(UserError, match=message) as error:
            pretrained.check(path, pretrained.model_config(path))
        assert "\n" not in str(error.value), kind
        assert len(str(error.value)) < 1000, kind


def test_shard_that_is_a_pipe_is_not_opened(damaged):
    def change(directory):
        with_pipe(sorted(directory.glob("*.safetensors"))[0].name)(directory)

    path = damaged(change, size="6KB")
    with pytest.raises(UserError, match="has no regular file model-"):
        pretrained.check(path, pretrained.model_config(path))


LLAMA3 = {**published.LLAMA3_ROPE}
CONFIGS = [
    ({"model_type": ["qwen3"]}, "model_type="),
    ({"model_type": {}}, "model_type="),
    ({"architectures": 5}, "architectures=5"),
    ({"layer_types": 5}, "layer_types=5; .*full attention"),
    ({"layer_types": "full_attention"}, "layer_types="),
    ({"layer_types": None, "use_sliding_window": "no"}, "use_sliding_window='no'.* true nor false"),
    ({"hidden_size": 10**30}, "hidden_size of more than 10,000,000"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers of more than 10,000"),
    ({"num_attention_heads": 10**9}, "num_attention_heads of more than"),
    ({"vocab_size": True}, "vocab_size=True"),
    ({"num_key_value_heads": 0}, "^[^:]*: config.json has num_key_value_heads=0"),
    ({"tie_word_embeddings": "false"}, "tie_word_embeddings='false', which is neither"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings=1, which is neither"),
    ({"rope_theta": "abc"}, "rope_theta='abc', which is not a positive"),
    ({"rope_theta": [1]}, r"rope_theta=\[1\], which is not a positive"),
    ({"rope_theta": True}, "rope_theta=True"),
    ({"rope_theta": -1}, "rope_theta=-1"),
    ({"rope_theta": 0}, "rope_theta=0"),
    ({"rope_theta": float("nan")}, "rope_theta=nan"),
    ({"rope_theta": float("inf")}, "rope_theta=inf"),
    ({"rope_theta": 10**400}, "rope_theta=1000"),
    ({"rope_theta": 5.0}, "two values of rope_theta"),
    ({"rope_scaling": [1]}, "rope_scaling="),
    ({"rope_scaling": "yarn"}, "rope_scaling='yarn'"),
    ({"rope_scaling": {"rope_type": [1]}}, "both rope_scaling and rope_parameters, which differ"),
    ({"rope_parameters": {"rope_type": [1]}}, "rope_parameters of type"),
    ({"rope_parameters": {**LLAMA3, "factor": 0}}, "factor=0, which is not"),
    ({"rope_parameters": {**LLAMA3, "factor": "8"}}, "factor='8', which is not"),
    (
        {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": float("inf")}},
        "original_max_position_embeddings=inf, which is not",
    ),
    (
        {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 0.5}},
        "original_max_position_embeddings=0.5, which is not an integer",
    ),
    ({"rope_parameters": {**LLAMA3, "high_freq_factor": 1.0}}, "slow_turns=1.0 must be less"),
    ({"rms_norm_eps": "x"}, "rms_norm_eps='x'"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan"),
    ({"rms_norm_eps": -1.0}, "rms_norm_eps=-1.0"),
]


def test_damaged_settings_give_one_line_that_names_the_key(damaged):
    for values, message in CONFIGS:

        def change(directory, values=values):
            file = directory / CONFIG
            file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

        path = damaged(change)
        with pytest.raises(UserError, match=message) as error:
            pretrained.check(path, pretrained.model_config(path))
        assert "\n" not in str(error.value), values
        assert len(str(error.value)) < 600, values


@pytest.mark.parametrize("layers", [None, "2", 2.5])
def test_qwen2_with_a_damaged_number_of_layers_without_window(layers, damaged):
    """The window of Qwen2 is off only if the number of layers without it covers all."""

    def change(directory):
        file = directory / CONFIG
        window = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": layers}
        description = {**json.loads(file.read_text()), **window, "layer_types": None}
        file.write_text(json.dumps(description))

    with pytest.raises(UserError, match=r"use_sliding_window=True; .* without a sliding window"):
        pretrained.model_config(damaged(change))


def zeros_elsewhere(directory):
    """Writes another tensor named `KEY` into the file whose name is the last."""
    last = max(directory.glob("*.safetensors"))
    tensors = load_file(last)
    assert KEY not in tensors
    save_file({**tensors, KEY: np.zeros((20, 24), np.float32)}, last, metadata={"format": "pt"})


def test_the_index_decides_which_file_has_a_tensor(whole, damaged, mesh):
    path = damaged(zeros_elsewhere, size="6KB")
    config = pretrained.model_config(path)
    params = pretrained.load(path, config, mesh=mesh)
    expected = load_file(whole["1GB"] / SINGLE)[KEY].T
    assert np.abs(expected).max() > 0.1
    np.testing.assert_array_equal(params["layers"]["key"][1].reshape(24, 20), expected)


def test_a_tensor_that_the_index_does_not_list_is_refused(damaged):
    def change(directory):
        zeros_elsewhere(directory)
        index = json.loads((directory / INDEX).read_text())
        del index["weight_map"][KEY]
        (directory / INDEX).write_text(json.dumps(index))

    path = damaged(change, size="6KB")
    with pytest.raises(UserError, match=rf"contains {KEY}, which {INDEX} does not list"):
        pretrained.check(path, pretrained.model_config(path))


@pytest.mark.parametrize(
    ("dtype", "wrong"),
    [
        (torch.float32, -np.inf),
        (torch.bfloat16, np.nan),
    ],
)
def test_weights_that_are_not_finite_are_refused_by_name(dtype, wrong, tmp_path):
    model = published.make("qwen3 grouped tied", dtype=dtype, vocab_size=64)
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[-1, -1] = wrong
    path = published.save(model, tmp_path)
    config = pretrained.model_config(path)
    pretrained.check(path, config)  # reads no weights
    split = sharding.make_mesh(MeshConfig(fsdp=2, tensor=2, data=2))
    with pytest.raises(UserError, match=f"{SINGLE}: {QUERY} has values that are not finite"):
        pretrained.load(path, config, mesh=split)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite_values_are_recognised_by_their_bits(dtype):
    largest = ml_dtypes.finfo(dtype).max
    for value in (0.0, -0.0, largest, -largest, 1e-7):
        assert loading._is_finite(np.full((130, 2), value, dtype)), value
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        for place in ((0, 0), (129, 1)):
            block = np.ones((130, 2), dtype)
            block[place] = value
            assert not loading._is_finite(block), value
