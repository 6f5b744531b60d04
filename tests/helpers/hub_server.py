"""A server on loopback that answers as the Hugging Face hub does, for a client of the hub."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from huggingface_hub import constants
from loopback_server import LoopbackServer, QuietHandler

from dvaojax import hub


class HubServer(LoopbackServer):
    """Repositories with several commits, the newest of which may change.

    Attributes:
        commits: repository -> commit -> file -> content.
        newest: repository -> commit.
        requests: the paths that were requested.
    """

    def __init__(self):
        super().__init__(_Handler)
        self.commits: dict[str, dict[str, Mapping[str, bytes]]] = {}
        self.newest: dict[str, str] = {}
        self.requests: list[str] = []

    def push(self, repository: str, directory: Path) -> str:
        """Adds a commit with the files of a directory, which becomes the newest; returns it."""
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
        content = b"".join(name.encode() + data for name, data in files.items())
        commit = hashlib.sha1(content).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        self.newest[repository] = commit
        return commit

    @contextlib.contextmanager
    def used(self, patch, cache: Path):
        """Serves, and makes the client of the hub ask this server, with an empty cache."""
        patch.setattr(constants, "ENDPOINT", self.url)
        address = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        hub._commit.cache_clear()
        with self:
            yield self
        hub._commit.cache_clear()

    def answer(self, request: BaseHTTPRequestHandler):
        parts = request.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and parts[4:5] == ["revision"]:
            self._describe(request, "/".join(parts[2:4]), "/".join(parts[5:]))
        elif parts[:2] == ["api", "models"] and parts[4:5] == ["tree"]:
            self._list(request, self.commits.get("/".join(parts[2:4]), {}).get(parts[5]))
        elif parts[2:3] == ["resolve"]:
            files = self.commits.get("/".join(parts[:2]), {}).get(parts[3], {})
            self._send(request, files.get(parts[4]), {"X-Repo-Commit": parts[3]})
        else:
            self._send(request, None, {})

    def _describe(self, request: BaseHTTPRequestHandler, repository: str, revision: str):
        known = self.commits.get(repository, {})
        commit = self.newest.get(repository) if revision == "main" else revision
        body = None
        if commit in known:
            siblings = [{"rfilename": name} for name in known[commit]]
            body = json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode()
        self._send(request, body, {"Content-Type": "application/json"})

    def _list(self, request: BaseHTTPRequestHandler, files: Mapping[str, bytes] | None):
        entries = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in (files or {}).items()
        ]
        body = None if files is None else json.dumps(entries).encode()
        self._send(request, body, {"Content-Type": "application/json"})

    def _send(
        self, request: BaseHTTPRequestHandler, body: bytes | None, headers: Mapping[str, str]
    ):
        request.send_response(404 if body is None else 200)
        content = body or b""
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


class _Handler(QuietHandler):
    owner: HubServer

    def do_GET(self):
        self.owner.requests.append(self.path)
        self.owner.answer(self)

    do_HEAD = do_GET
