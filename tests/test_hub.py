"""Repositories of the hub: a process uses one commit of each, also if a newer one is published."""

import hub_server
import pytest
import tokenizer_files

from dvaojax import hub
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.errors import UserError


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub_server.HubServer().used(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    tokenizer_files.write(path, eos_token="<|im_end|>")
    (path / "config.json").write_text('{"version": 1}')
    (path / "model.safetensors").write_bytes(b"large")
    return path


def test_all_files_are_of_the_commit_that_was_the_newest_at_the_first_call(server, directory):
    first = server.push("owner/name", directory)
    config = hub.local_directory("owner/name", ["config.json"]) / "config.json"
    assert config.read_text() == '{"version": 1}'
    (directory / "config.json").write_text('{"version": 2}')
    second = server.push("owner/name", directory)
    assert hub.resolve("owner/name") == f"owner/name@{first}" != f"owner/name@{second}"
    tokenizer = PretrainedTokenizer("owner/name")
    assert tokenizer.encode("ab") == [256]
    assert f"/owner/name/resolve/{first}/tokenizer.json" in server.requests
    assert not any(second in path for path in server.requests)
    assert not any("safetensors" in path for path in server.requests)
    # Another process, later, gets the newest unless a commit is given.
    hub._commit.cache_clear()
    assert hub.resolve("owner/name") == f"owner/name@{second}"
    for path, version in ((f"owner/name@{first}", 1), (f"owner/name@{second}", 2)):
        config = hub.local_directory(path, ["config.json"]) / "config.json"
        assert config.read_text() == f'{{"version": {version}}}'


def test_without_a_network_the_cached_commit_is_used(server, directory, monkeypatch):
    commit = server.push("owner/name", directory)
    hub.local_directory("owner/name", ["config.json"])
    hub._commit.cache_clear()
    server.stop()
    assert hub.resolve("owner/name") == f"owner/name@{commit}"
    path = hub.local_directory("owner/name", ["config.json"])
    assert (path / "config.json").is_file()
    with pytest.raises(UserError, match="'owner/other' is not a directory, and downloading") as e:
        hub.resolve("owner/other")
    assert "\n" not in str(e.value)


def test_unknown_repositories_and_revisions_are_one_line(server, directory):
    server.push("owner/name", directory)
    for path in ("owner/name@v9", "owner/gone", f"owner/name@{'0' * 40}"):
        with pytest.raises(UserError, match=f"'{path}' is not a directory, and") as error:
            hub.local_directory(path, ["config.json"])
        assert "\n" not in str(error.value)
    for path in ("name", "a/b/c", "owner/name@", "owner/name@a b", "../up/x"):
        with pytest.raises(UserError, match="is neither a directory nor a repository"):
            hub.local_directory(path, ["config.json"])


def test_directories_stay_as_they_are(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    assert hub.resolve("model") == "model"
    assert hub.resolve(str(directory)) == str(directory)


def test_tells_a_commit_of_a_repository():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert hub.is_commit_of(f"owner/name@{commit}", "owner/name")
    assert not hub.is_commit_of(f"owner/name@{commit}", "owner/other")
    assert not hub.is_commit_of("owner/name@main", "owner/name")
    assert not hub.is_commit_of("owner/name", "owner/name")
