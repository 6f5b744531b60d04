"""A headless browser that opens a page and records its requests and errors.

Uses the Chrome DevTools protocol over two pipes: JSON messages, each followed by a zero byte. No
port is opened, and only the standard library is needed.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_TIMEOUT_SECONDS = 60.0  # for an answer, on a busy machine


class Page:
    """One page of the browser.

    Attributes:
        requests: requested addresses.
        errors: exceptions, blocked scripts and styles, failed requests.
    """

    def __init__(self, to_browser: int, from_browser: int):
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._to, self._from = to_browser, from_browser
        self._unread, self._last = b"", 0
        self._session: dict[str, str] = {}
        self._loaded = False
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, file: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Opens a file in a window of a given width, with a light or dark colour scheme."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        self._call("Page.navigate", url=file.resolve().as_uri())
        while not self._loaded:
            self._read()

    def with_scripts(self, *, off: bool) -> None:
        """Whether pages opened from now on may run scripts."""
        self._call("Emulation.setScriptExecutionDisabled", value=off)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=name)

    def point(self, x: float, y: float) -> None:
        """Moves the pointer."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, *, whole: bool = True) -> str:
        """The page as a PNG, in base64."""
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        return answer["data"]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        """Reads the next message, and records requests and errors."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while b"\0" not in self._unread:
            left = deadline - time.monotonic()
            assert select.select([self._from], [], [], max(left, 0.0))[0], "no answer"
            self._unread += os.read(self._from, 1 << 20)
        line, _, self._unread = self._unread.partition(b"\0")
        message = json.loads(line)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Network.loadingFailed":
                self.errors.append(parameters["errorText"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(parameters["exceptionDetails"]))
            case "Log.entryAdded":
                self.errors.append(parameters["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.errors.append(json.dumps(parameters["args"]))
            case "Page.loadEventFired":
                self._loaded = True
        return message


@contextlib.contextmanager
def browser(directory: Path) -> Iterator[Page]:
    """A page of a browser whose own files are kept in a directory."""
    assert BROWSER is not None
    read_here, write_there = os.pipe()
    read_there, write_here = os.pipe()
    # The browser reads from 3 and writes to 4, which may be the descriptors of the pipes.
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read_there, write_there))
    with (directory / "browser.log").open("wb") as log:
        child = os.posix_spawn(
            BROWSER,
            [BROWSER, *_QUIET, f"--user-data-dir={directory / 'profile'}"],
            {**os.environ, "HOME": str(directory)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reader, 3),
                (os.POSIX_SPAWN_DUP2, writer, 4),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            ],
            setpgroup=0,
        )
    for end in (read_there, write_there, reader, writer):
        os.close(end)
    try:
        yield Page(write_here, read_here)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(write_here)
        os.close(read_here)
