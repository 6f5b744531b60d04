"""Weights, tokenizers and datasets that are read from a bucket, on a real storage server."""

import asyncio
import concurrent.futures
import shutil
from pathlib import Path

import jax
import numpy as np
import published
import pytest
import tiny_preferences
import tokenizer_files
from bucket_server import BUCKET, bucket_environment, bucket_server
from slowness import slow_but

from dvaojax import hub, sharding
from dvaojax.data import prepared, preparing
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import ServiceError, UserError
from dvaojax.models import pretrained
from dvaojax.models.pretrained import weight_storage
from dvaojax.sharding import MeshConfig

MIXED = {"fsdp": 2, "tensor": 2, "data": 2}
PLACE = f"gs://{BUCKET}/models"


@pytest.fixture(scope="module")
def server():
    with bucket_server() as url:
        yield url


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """The empty bucket as a file system; its files are copied to the test's directory."""
    for name, value in bucket_environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system, _ = hub.file_system(PLACE)
    for path in system.find(BUCKET):
        system.rm(path)
    return system


@pytest.fixture
def uploaded(bucket, tmp_path):
    """Uploads a checkpoint; returns its local directory and its address."""

    def upload(max_shard_size="1GB"):
        model = published.make("qwen3 grouped tied", vocab_size=64, tie_word_embeddings=False)
        path = published.save(model, tmp_path / "local", max_shard_size=max_shard_size)
        bucket.put(path, f"{PLACE}/tiny", recursive=True)
        return path, f"{PLACE}/tiny"

    return upload


@pytest.mark.parametrize("max_shard_size", slow_but(["6KB"], ["1GB", "6KB"]))
@pytest.mark.parametrize("sizes", slow_but([MIXED], [MIXED, {"data": 8}]))
def test_every_byte_is_read_once_into_equal_parameters(
    max_shard_size, sizes, uploaded, monkeypatch, tmp_path
):
    monkeypatch.setattr(weight_storage, "_RANGE_BYTES", 1000)
    path, address = uploaded(max_shard_size)
    config = pretrained.model_config(address)
    assert config == pretrained.model_config(path)
    read, ranges = weight_storage._read_object, []

    def recorded(address, system, name, begin, end):
        ranges.append((address, begin, end))
        return read(address, system, name, begin, end)

    monkeypatch.setattr(weight_storage, "_read_object", recorded)
    mesh = sharding.make_mesh(MeshConfig(**sizes))
    actual, expected = (pretrained.load(place, config, mesh=mesh) for place in (address, path))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    # The bytes of the headers are before those of the tensors.
    assert len(set(ranges)) == len(ranges)
    size = sum(file.stat().st_size for file in Path(path).glob("*.safetensors"))
    assert sum(end - begin for _, begin, end in ranges) == size
    copied = {file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()}
    assert copied <= {"config.json", "model.safetensors.index.json"}


def test_errors_name_the_address(uploaded, bucket, tmp_path):
    path, address = uploaded()
    config, mesh = pretrained.model_config(address), sharding.make_mesh(MeshConfig())
    with pytest.raises(
        UserError, match=r"^gs://bucket/models/other does not exist, or has none of"
    ):
        pretrained.model_config(f"{PLACE}/other")
    with pytest.raises(UserError, match=r"^s3://a/b: only addresses that begin with gs://"):
        pretrained.model_config("s3://a/b")
    content = Path(path, "model.safetensors").read_bytes()
    bucket.pipe_file(f"{address}/model.safetensors", content[:-1])
    with pytest.raises(UserError, match=r"^gs://bucket/models/tiny/model.safetensors is truncated"):
        pretrained.load(address, config, mesh=mesh)
    bucket.rm(f"{address}/model.safetensors")
    with pytest.raises(UserError, match=r"^gs://bucket/models/tiny has neither model.safetensors"):
        pretrained.load(address, config, mesh=mesh)


def test_a_server_that_has_ended_is_one_line(bucket, monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))  # between repetitions
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{tiny_preferences.free_port()}")
    with pytest.raises(
        ServiceError, match=r"^gs://bucket/models/tiny: .*Connect call failed"
    ) as error:
        pretrained.model_config(f"{PLACE}/tiny")
    assert "\n" not in str(error.value)


def test_a_tokenizer_is_copied_again_when_it_changes(bucket, tmp_path):
    path = tmp_path / "tokenizer"
    path.mkdir()
    tokenizer_files.write(path, template=tokenizer_files.QWEN2_5)
    bucket.put(str(path), f"{PLACE}/tokenizer", recursive=True)
    tokenizer, local = PretrainedTokenizer(f"{PLACE}/tokenizer"), PretrainedTokenizer(str(path))
    assert tokenizer.encode("abc <|im_end|>") == local.encode("abc <|im_end|>")
    first = hub.local_directory(tokenizer.path, hub.TEXT_FILES)
    assert hub.local_directory(tokenizer.path, hub.TEXT_FILES) == first
    with concurrent.futures.ThreadPoolExecutor() as pool:  # as processes of one host do
        shutil.rmtree(first)
        copies = pool.map(hub.local_directory, [tokenizer.path] * 4, [hub.TEXT_FILES] * 4)
        assert set(copies) == {first}
    bucket.pipe_file(f"{tokenizer.path}/generation_config.json", b'{"eos_token_id": [3]}')
    second = hub.local_directory(tokenizer.path, hub.TEXT_FILES)
    assert second != first
    assert (second / "generation_config.json").read_bytes() == b'{"eos_token_id": [3]}'


def test_a_prepared_dataset_is_read_and_not_written(bucket, tmp_path):
    rows = [{"prompt": f"{i} + 1?", "answer": str(i + 1)} for i in range(5)]
    tiny_preferences.prepare(tmp_path, "sums", rows)
    bucket.put(str(tmp_path / "sums"), f"{PLACE}/sums", recursive=True)
    records = [list(prepared.read("sums", "train", data_dir=place)) for place in (PLACE, tmp_path)]
    assert records[0] == records[1]
    assert len(records[0]) == 5
    with pytest.raises(UserError, match="datasets are prepared in a local directory"):
        preparing.prepare("more", source=tmp_path / "sums.jsonl", data_dir=PLACE)
