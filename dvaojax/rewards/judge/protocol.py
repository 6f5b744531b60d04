"""One call of the chat-completions protocol and the possible failures of a server.

A server's response is a reply, or one of two failures: a `TransientError`, after which the call may
be repeated, or a `RefusedRequest`. The size of a response is limited before and after it is
decompressed.
"""

import contextlib
import datetime
import email.utils
import json
import zlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, Self

from dvaojax.errors import UserError, printable

_LARGEST_REPLY = 2**22  # bytes, as sent and decompressed
_LARGEST_ERROR = 2**16  # bytes of an error's message, as sent
_TOO_LONG = "a response of more than 4 MiB"
_LARGEST_COUNT = 10**9  # tokens of one call
_RETRYABLE = (408, 409, 425, 429)  # and all codes from 500 on
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


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

        Raises:
            UserError: the certificates or the proxy that the environment names cannot be used.
        """
        self._httpx = httpx
        self._url = url.rstrip("/") + "/chat/completions"
        self._api_key = api_key
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # The caller limits the total time, since a per-read timeout would not catch a server that
        # sends one byte per second. Certificates load slowly and are only needed for https.
        try:
            self._client = httpx.AsyncClient(
                headers=headers,
                timeout=None,
                limits=httpx.Limits(max_connections=concurrency),
                verify=url.startswith("https://"),
            )
        except (ValueError, ImportError, OSError) as error:
            raise UserError(
                f"no client for the judge can be made: {self._clean(str(error))}; see the "
                "variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
            ) from error

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
        status, headers, content = await self._exchange(json.dumps(request).encode())
        encoding = headers.get("Content-Encoding", "")
        if 200 <= status < 300:
            return read_reply(decompressed(content, encoding))
        if status in _RETRYABLE or status >= 500:
            wait = retry_after(headers.get("Retry-After"))
            raise TransientError(f"HTTP {status}", retry_after_seconds=wait)
        if 300 <= status < 400:
            location = self._clean(headers.get("Location", ""))
            raise RefusedRequest(f"HTTP {status}: redirected to {location!r}; see judge.url")
        with contextlib.suppress(TransientError):
            content = decompressed(content, encoding)
        raise RefusedRequest(f"HTTP {status}: {self._clean(content.decode(errors='replace'))}")

    async def _exchange(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content of the response, as sent; the beginning of a long error."""
        content = bytearray()
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                limit = _LARGEST_REPLY if response.is_success else _LARGEST_ERROR
                async for piece in response.aiter_raw():
                    content += piece
                    if len(content) > limit:
                        break
        except Exception as error:  # not only the library's own, if a response is odd enough
            # Without the sizes in parentheses, so that equal failures have equal messages.
            line = self._clean(str(error).partition("(")[0])
            raise TransientError(f"{type(error).__name__}: {line}".rstrip(": ")) from error
        if len(content) > _LARGEST_REPLY:
            raise TransientError(_TOO_LONG)
        return response.status_code, response.headers, bytes(content)

    def _clean(self, text: str) -> str:
        """The beginning of a server's message, in one printable line, without the key."""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return printable(" ".join(text.split()))[:200]


def decompressed(content: bytes, encoding: str) -> bytes:
    """The body of a response without its compression.

    Args:
        content: as sent.
        encoding: the header Content-Encoding.

    Raises:
        TransientError: another compression than gzip or deflate, more than one, or none of that
            name in the content; or more than 4 MiB of content.
    """
    if encoding.strip().lower() in ("", "identity"):
        return content
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise TransientError(f"a response with Content-Encoding {printable(encoding)[:50]!r}")
    decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        body = decompressor.decompress(content, _LARGEST_REPLY + 1)
    except zlib.error as error:
        raise TransientError("a response whose compression is damaged") from error
    if len(body) > _LARGEST_REPLY:
        raise TransientError(_TOO_LONG)
    if not decompressor.eof:
        raise TransientError("a response whose compression is damaged")
    return body


def read_reply(content: bytes) -> Reply:
    """Extracts the reply from the body of a response; half characters in it are replaced.

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
    return Reply(
        valid_text(text),
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
    )


def valid_text(text: str) -> str:
    """The text with lone surrogates replaced, which servers and files do not accept."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, given in seconds or as a date; None without one."""
    if header is None:
        return None
    if header.strip().isdecimal() and len(header) < 10:
        return float(header)
    try:
        date = email.utils.parsedate_to_datetime(header)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return max((date - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _count(value: object) -> int:
    return value if type(value) is int and 0 < value <= _LARGEST_COUNT else 0
