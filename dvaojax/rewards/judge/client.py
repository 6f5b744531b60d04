"""Questions to a judge, many at a time, whatever its server does."""

import asyncio
import contextlib
import dataclasses
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from dvaojax.errors import UserError, import_extra
from dvaojax.rewards.judge.cache import ReplyCache, ReplySession, request_key
from dvaojax.rewards.judge.protocol import Connection, RefusedRequest, Reply, TransientError

ReplyValue = TypeVar("ReplyValue")
Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """A judge and how patiently it is asked.

    Attributes:
        url: of the server, up to the version: `http://127.0.0.1:8000/v1`.
        model: the name it is served under.
        api_key_variable: the environment variable that holds the key; empty where none is needed.
            The key itself stands in no file and no message.
        temperature: of the judge's sampling. A cached reply is not drawn again.
        max_tokens: of a reply.
        concurrency: questions under way at once.
        attempts: to get one question answered and its answer understood.
        timeout_seconds: for one attempt, from the connection to the last byte.
        batch_seconds: for all questions of a batch; what is open then counts as failed.
        first_wait_seconds: before the second attempt, on average half of it; it doubles with every
            further one, unless the server says how long to wait.
        longest_wait_seconds: between two attempts, likewise unless the server says.
        max_failed_batches: batches in a row without a single answer that a run survives.
        cache: file that keeps replies; empty for none.

    Raises:
        ValueError: the address is no HTTP address, the model has no name, or a number is out of its
            range.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = "judge"
    api_key_variable: str = ""
    temperature: float = 0.0
    max_tokens: int = 1024
    concurrency: int = 32
    attempts: int = 6
    timeout_seconds: float = 60.0
    batch_seconds: float = 600.0
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0
    max_failed_batches: int = 3
    cache: str = ""

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"judge.url={self.url!r} begins with neither http:// nor https://")
        if not self.model:
            raise ValueError("judge.model is empty")
        for name in ("max_tokens", "concurrency", "attempts", "max_failed_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"judge.{name}={getattr(self, name)} must be at least 1")
        for name in ("timeout_seconds", "batch_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"judge.{name}={getattr(self, name)} must be positive")
        for name in ("temperature", "first_wait_seconds", "longest_wait_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"judge.{name}={getattr(self, name)} must not be negative")


class JudgeAnswer(NamedTuple, Generic[ReplyValue]):
    """What came of one question.

    Attributes:
        value: as the caller's reader understood it; None where the question failed.
        failure: why it did, in a few words; empty where it did not.
    """

    value: ReplyValue | None
    failure: str = ""


@dataclasses.dataclass
class Usage:
    """What a batch of questions cost.

    Attributes:
        calls: requests sent, repeated ones included.
        cached: questions that the cache, or an equal question of the batch, answered.
        tokens_in: of the prompts, as the server counts them; only of calls that were answered.
        tokens_out: of the replies, likewise.
        waited_seconds: from each request to its reply or failure, added up.
    """

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    waited_seconds: float = 0.0


class Judge:
    """Asks a model. It may be shared by threads; every batch opens its own connections."""

    def __init__(self, config: JudgeConfig):
        """Reaches for no server yet.

        Raises:
            UserError: httpx is not installed, the API key is not in the environment, or the cache
                is not one.
        """
        self.config = config
        self._httpx = import_extra("httpx", extra="judge")
        self._api_key = _api_key(config.api_key_variable)
        self._cache = ReplyCache(Path(config.cache)) if config.cache else None

    def ask(
        self, questions: Sequence[Messages], read: Callable[[str], ReplyValue | None]
    ) -> tuple[list[JudgeAnswer[ReplyValue]], Usage]:
        """Asks all questions, equal ones once; returns an answer for each, failed ones included.

        Args:
            questions: messages each.
            read: what a reply means, or None where it means nothing and is to be asked for again.

        Raises:
            UserError: the cache is damaged.
        """
        requests = [self._request(messages) for messages in questions]
        keys = [request_key(request) for request in requests]
        distinct = dict(zip(keys, requests, strict=True))
        # In a thread of its own: the caller's may run an event loop, as notebooks do.
        with ThreadPoolExecutor(max_workers=1) as thread:
            asked = thread.submit(lambda: asyncio.run(self._ask_all(distinct, read)))
            answers, usage = asked.result()
        usage.cached += len(keys) - len(distinct)
        return [answers[key] for key in keys], usage

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {
            "model": self.config.model,
            "messages": [dict(message) for message in messages],
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }

    async def _ask_all(
        self, requests: Mapping[str, Mapping[str, Any]], read: Callable[[str], ReplyValue | None]
    ) -> tuple[dict[str, JudgeAnswer[ReplyValue]], Usage]:
        usage, answers = Usage(), {}
        with self._cache.session() if self._cache else contextlib.nullcontext() as cache:
            for key in requests:
                text = cache.get(key) if cache else None
                value = None if text is None else read(text)
                if value is not None:
                    answers[key] = JudgeAnswer(value)
            usage.cached = len(answers)
            left = {key: request for key, request in requests.items() if key not in answers}
            if left:
                answers |= await self._ask_server(left, read, cache, usage)
        return answers, usage

    async def _ask_server(
        self,
        requests: Mapping[str, Mapping[str, Any]],
        read: Callable[[str], ReplyValue | None],
        cache: ReplySession | None,
        usage: Usage,
    ) -> dict[str, JudgeAnswer[ReplyValue]]:
        config, free = self.config, asyncio.Semaphore(self.config.concurrency)
        connecting = Connection(
            self._httpx, config.url, api_key=self._api_key, concurrency=config.concurrency
        )
        async with connecting as connection:

            async def ask(key: str, request: Mapping[str, Any]) -> JudgeAnswer[ReplyValue]:
                async with free:
                    reply, answer = await self._ask_one(connection, request, read, usage)
                if cache and reply:
                    cache.put(key, reply.text)
                return answer

            tasks = {key: asyncio.create_task(ask(key, r)) for key, r in requests.items()}
            await asyncio.wait(tasks.values(), timeout=config.batch_seconds)
            for task in tasks.values():
                task.cancel()
            outcomes = await asyncio.gather(*tasks.values(), return_exceptions=True)
        late = JudgeAnswer(
            None, f"unanswered when the batch's {config.batch_seconds:g} s were over"
        )
        answers = {}
        for key, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            answers[key] = late if isinstance(outcome, BaseException) else outcome
        return answers

    async def _ask_one(
        self,
        connection: Connection,
        request: Mapping[str, Any],
        read: Callable[[str], ReplyValue | None],
        usage: Usage,
    ) -> tuple[Reply | None, JudgeAnswer[ReplyValue]]:
        """One question, until it is answered or the attempts are used up."""
        config, failure = self.config, ""
        for attempt in range(config.attempts):
            start, usage.calls = time.monotonic(), usage.calls + 1
            asked_to_wait = None
            try:
                async with asyncio.timeout(config.timeout_seconds):
                    reply = await connection.post(request)
                usage.tokens_in += reply.tokens_in
                usage.tokens_out += reply.tokens_out
                value = read(reply.text)
                if value is not None:
                    return reply, JudgeAnswer(value)
                failure = "the reply was not as asked for"
            except TimeoutError:
                failure = f"no reply within {config.timeout_seconds:g} s"
            except RefusedRequest as refusal:
                return None, JudgeAnswer(None, str(refusal))
            except TransientError as trouble:
                failure, asked_to_wait = str(trouble), trouble.retry_after_seconds
            finally:
                usage.waited_seconds += time.monotonic() - start
            if attempt + 1 < config.attempts:
                await asyncio.sleep(self._wait(attempt, asked_to_wait))
        return None, JudgeAnswer(None, failure)

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before the next attempt: what the server asked for, or a growing random time."""
        config = self.config
        if asked is not None:
            return asked + random.uniform(0.0, 0.1)
        longest = min(config.first_wait_seconds * 2**attempt, config.longest_wait_seconds)
        return random.uniform(0.0, longest)


def _api_key(variable: str) -> str:
    """The key in an environment variable; empty where none is named.

    Raises:
        UserError: there is none, or it could not be sent.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"judge.api_key_variable={variable}: there is no such environment variable")
    if not key.isascii() or not key.isprintable():
        raise UserError(f"judge.api_key_variable={variable}: the key there is not plain text")
    return key
