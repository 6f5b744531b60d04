"""One call of the chat-completions protocol and the possible failures of a server."""

import datetime
import email.utils
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, Self

_LARGEST_REPLY = 2**22
_RETRYABLE = (408, 409, 425, 429)  # and all codes from 500 on


class Reply(NamedTuple):
    """A model's reply.

    Attributes:
        text: of its message.
        tokens_in: of the prompt; 0 if the server does not count.
        tokens_out: of the reply, likewise.
    """

    text: str
    tokens_in: int
    tokens_out: int


class TransientError(Exception):
    """A failed call that may succeed when repeated.

    Attributes:
        retry_after_seconds: the wait requested by the server; None if it requested none.
    """

    def __init__(self, line: str, *, retry_after_seconds: float | None = None):
        super().__init__(line)
        self.retry_after_seconds = retry_after_seconds


class RefusedRequest(Exception):
    """A call that the server rejects permanently, for example because of a wrong key."""


class Connection:
    """Calls to one server; an asynchronous context manager."""

    def __init__(self, httpx: ModuleType, url: str, *, api_key: str, concurrency: int):
        """Prepares the client; no connection is opened yet.

        Args:
            httpx: the library.
            url: of the server, up to the version.
            api_key: sent as a bearer token; empty for none.
            concurrency: maximum number of connections.
        """
        self._httpx = httpx
        self._url = url.rstrip("/") + "/chat/completions"
        self._api_key = api_key
        headers = {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # The caller limits the total time, since a per-read timeout would not catch a server that
        # sends one byte per second. Certificates load slowly and are only needed for https.
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=None,
            limits=httpx.Limits(max_connections=concurrency),
            verify=url.startswith("https://"),
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.__aexit__(*exception)

    async def post(self, request: Mapping[str, Any]) -> Reply:
        """Sends a request and returns the reply.

        Raises:
            TransientError: the server is unreachable or busy, or its response broken or invalid.
            RefusedRequest: the server rejects the request.
        """
        content = b""
        try:
            body = json.dumps(request).encode()
            async with self._client.stream("POST", self._url, content=body) as response:
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > _LARGEST_REPLY:
                        raise TransientError("a reply of more than 4 MiB")
        except (self._httpx.HTTPError, self._httpx.InvalidURL, self._httpx.StreamError) as error:
            # Without the sizes in parentheses, so that equal failures have equal messages.
            line = self._clean(str(error).partition("(")[0])
            raise TransientError(f"{type(error).__name__}: {line}".rstrip(": ")) from error
        status = response.status_code
        if status == 200:
            return read_reply(content)
        if status in _RETRYABLE or status >= 500:
            wait = retry_after(response.headers.get("Retry-After"))
            raise TransientError(f"HTTP {status}", retry_after_seconds=wait)
        raise RefusedRequest(f"HTTP {status}: {self._clean(content.decode(errors='replace'))}")

    def _clean(self, text: str) -> str:
        """The beginning of a server's message, in one line, without the key."""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return " ".join(text.split())[:200]


def read_reply(content: bytes) -> Reply:
    """Extracts the reply from the body of a response.

    Raises:
        TransientError: the body contains no reply.
    """
    try:
        body = json.loads(content)
        text = body["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise TransientError("a response without a reply") from error
    if not isinstance(text, str):
        raise TransientError("a response without a reply")
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(text, _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")))


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, given in seconds or as a date; None without one."""
    if header is None:
        return None
    if header.strip().isdecimal() and len(header) < 10:
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
    except (ValueError, TypeError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return max((date - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
