"""A storage server that fails, does not answer, or ends: a proxy before `bucket_server`."""

import contextlib
import http.client
import itertools
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from loopback_server import LoopbackServer, QuietHandler

# Headers of one connection, which the proxy writes itself.
_OWN = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class FaultyBucket(LoopbackServer):
    """A proxy of which the test decides, request by request, what it does.

    Attributes:
        target: address of the server that it passes requests to.
        fault: (number of the request, from 1) -> "none", "error" for the status 503, "reset" for a
            connection that is closed without an answer, "lost" for one that is closed after the
            server has done what was asked, "stall" for no answer as long as the proxy runs.
        faults: the faults so far, by kind.
    """

    def __init__(self, target: str, fault: Callable[[int], str] = lambda number: "none"):
        super().__init__(_Proxy)
        self.target, self.fault = target, fault
        self.faults: dict[str, int] = {}
        self.ended = threading.Event()
        self._numbers = itertools.count(1)

    def next_fault(self) -> str:
        """The fault of the next request."""
        kind = "reset" if self.ended.is_set() else self.fault(next(self._numbers))
        self.faults[kind] = self.faults.get(kind, 0) + 1
        return kind

    def stop(self) -> None:
        """Ends the proxy; later connections are refused."""
        self.ended.set()
        super().stop()


class _Proxy(QuietHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self._body()
        fault = self.owner.next_fault()
        if fault == "stall":
            self.owner.ended.wait()
        if fault in ("stall", "reset"):
            self.close_connection = True
            return
        if fault == "error":
            self._send(503, [], b"the server is busy")
            return
        status, headers, content = self._forwarded(body)
        if fault == "lost":
            self.close_connection = True
            return
        self._send(status, headers, content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer of the target."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _OWN}
        target = urlsplit(self.owner.target)
        with contextlib.closing(http.client.HTTPConnection(target.hostname, target.port)) as server:
            server.request(self.command, self.path, body, headers)
            answer = server.getresponse()
            content = answer.read()
        place = f"127.0.0.1:{target.port}".encode()
        content = content.replace(place, f"127.0.0.1:{self.owner.port}".encode())
        return answer.status, [h for h in answer.getheaders() if h[0].lower() not in _OWN], content

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
