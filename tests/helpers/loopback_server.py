"""A real HTTP server on loopback, the base of those that play a service in tests."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class LoopbackServer:
    """A context manager that serves until its exit, or until `stop`.

    Attributes:
        port: on which it listens.
        url: its address.
    """

    def __init__(self, handler: type["QuietHandler"], *, port: int = 0):
        """Starts to listen; requests are answered from entering the context on.

        Args:
            handler: of the requests; finds this server in its attribute `owner`.
            port: to listen on; 0 chooses a free one.
        """
        own_handler = type("Handler", (handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", port), own_handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops serving; later connections are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs nothing."""

    owner: Any

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores clients that disconnected."""
