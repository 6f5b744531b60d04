"""One call of the chat-completions protocol, and what a server may do instead of answering it."""

import datetime
import email.utils
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, Self

_LARGEST_REPLY = 2**22
_PASSING = (408, 409, 425, 429)  # and everything from 500 on


class Reply(NamedTuple):
    """What the model said.

    Attributes:
        text: of its message.
        tokens_in: of the prompt; 0 where the server does not count.
        tokens_out: of the reply, likewise.
    """

    text: str
    tokens_in: int
    tokens_out: int


class TransientError(Exception):
    """A call that failed in a way that may pass.

    Attributes:
        retry_after_seconds: how long the server asked to be left alone; None where it did not.
    """

    def __init__(self, line: str, *, retry_after_seconds: float | None = None):
        super().__init__(line)
        self.retry_after_seconds = retry_after_seconds


class RefusedRequest(Exception):
    """A call that the server will never answer, such as one with a wrong key."""


class Connection:
    """Calls to one server; an asynchronous context manager."""

    def __init__(self, httpx: ModuleType, url: str, *, api_key: str, concurrency: int):
        """Opens nothing yet.

        Args:
            httpx: the library.
            url: of the server, up to the version.
            api_key: sent as a bearer's token; empty for none.
            concurrency: connections at once.
        """
        self._httpx = httpx
        self._url = url.rstrip("/") + "/chat/completions"
        self._api_key = api_key
        headers = {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # Time limits are the caller's, for a server that sends a byte a second never seems silent.
        # Certificates take long to load and are needed for https alone.
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
        """The reply to a request.

        Raises:
            TransientError: the server could not be reached, was busy, broke off or talked nonsense.
            RefusedRequest: it will not answer this.
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
            # Without the sizes in brackets, in which otherwise equal failures differ.
            line = self._clean(str(error).partition("(")[0])
            raise TransientError(f"{type(error).__name__}: {line}".rstrip(": ")) from error
        status = response.status_code
        if status == 200:
            return read_reply(content)
        if status in _PASSING or status >= 500:
            wait = retry_after(response.headers.get("Retry-After"))
            raise TransientError(f"HTTP {status}", retry_after_seconds=wait)
        raise RefusedRequest(f"HTTP {status}: {self._clean(content.decode(errors='replace'))}")

    def _clean(self, text: str) -> str:
        """The beginning of what a server said, in one line, without the key."""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return " ".join(text.split())[:200]


def read_reply(content: bytes) -> Reply:
    """The reply in the body of a response.

    Raises:
        TransientError: there is none.
    """
    try:
        body = json.loads(content)
        text = body["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise TransientError("a response without a reply in it") from error
    if not isinstance(text, str):
        raise TransientError("a response without a reply in it")
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Reply(text, _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")))


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None without one."""
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
