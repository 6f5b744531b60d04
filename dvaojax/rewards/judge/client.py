"""Sends questions to a judge concurrently, with retries and a cache."""

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
from dvaojax.rewards.addresses import check_address
from dvaojax.rewards.judge.cache import ReplyCache, ReplySession, request_key
from dvaojax.rewards.judge.protocol import Connection, RefusedRequest, Reply, TransientError

ReplyValue = TypeVar("ReplyValue")
Messages = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """A judge's server, sampling parameters, and limits.

    Attributes:
        url: of the server, up to the version: `http://127.0.0.1:8000/v1`. It contains no password
            and no key, since it is written to files and messages.
        model: the name under which it is served.
        api_key_variable: environment variable that contains the key; empty if none is needed. The
            key itself appears in no file and no message.
        temperature: of the judge's sampling. Cached replies are not sampled again.
        max_tokens: of a reply.
        concurrency: maximum number of concurrent questions.
        attempts: maximum number of attempts to get a valid reply to a question.
        timeout_seconds: limit for one attempt, from the connection to the last byte.
        batch_seconds: limit for all questions of a batch; unfinished ones count as failed.
        first_wait_seconds: upper bound of the random wait before the second attempt; it doubles
            with every further attempt, unless the server specifies a wait within `batch_seconds`.
        longest_wait_seconds: maximum of this bound, unless the server specifies the wait.
        max_failed_batches: number of consecutive batches without any answer at which a run stops.
        cache: file in which replies are stored; empty for none.

    Raises:
        ValueError: the URL is not an HTTP address or contains more, the key's variable is not a
            name, the model is empty, or a number is out of its range.
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
        check_address(
            "judge.url",
            self.url,
            example="http://127.0.0.1:8000/v1",
            secret="put the key into an environment variable and its name into "
            "judge.api_key_variable",
        )
        if self.api_key_variable and not self.api_key_variable.isidentifier():
            # It is not quoted, since it may be the key itself.
            raise ValueError("judge.api_key_variable is not the name of an environment variable")
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
    """Result of one question.

    Attributes:
        value: as parsed by the caller's reader; None if the question failed.
        failure: the reason in a few words; empty if it succeeded.
    """

    value: ReplyValue | None
    failure: str = ""


@dataclasses.dataclass
class Usage:
    """Cost of a batch of questions.

    Attributes:
        calls: requests sent, including repeated ones.
        cached: questions answered by the cache or by an equal question of the batch.
        tokens_in: of the prompts, as counted by the server; only for answered calls.
        tokens_out: of the replies, likewise.
        waited_seconds: total time from each request to its reply or failure.
    """

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    waited_seconds: float = 0.0


class Judge:
    """Client of a judge model. Thread-safe; every batch opens its own connections."""

    def __init__(self, config: JudgeConfig):
        """Stores the configuration; no connection is opened yet.

        Raises:
            UserError: httpx is not installed, the API key is not in the environment, the proxy or
                the certificates named there cannot be used, or the cache file is not a cache.
        """
        self.config = config
        self._httpx = import_extra("httpx", extra="judge")
        self._api_key = _api_key(config.api_key_variable)
        self._connection()
        self._cache = ReplyCache(Path(config.cache)) if config.cache else None

    def ask(
        self,
        questions: Sequence[Messages],
        read: Callable[[str], ReplyValue | None],
        seeds: Sequence[int] = (),
    ) -> tuple[list[JudgeAnswer[ReplyValue]], Usage]:
        """Asks all questions, equal ones once; returns an answer for each, also for failed ones.

        Args:
            questions: the messages of each question.
            read: parses a reply; None if it is invalid and the question should be repeated.
            seeds: of the sampling of each reply, so that equal questions with other seeds are asked
                again; 0, the default, sends none.

        Raises:
            UserError: the cache is damaged.
        """
        every_seed = seeds or [0] * len(questions)
        requests = list(map(self._request, questions, every_seed))
        keys = [request_key(request) for request in requests]
        distinct = dict(zip(keys, requests, strict=True))
        # In a separate thread, since the caller's may run an event loop, as in notebooks.
        with ThreadPoolExecutor(max_workers=1) as thread:
            future = thread.submit(lambda: asyncio.run(self._ask_all(distinct, read)))
            answers, usage = future.result()
        usage.cached += len(keys) - len(distinct)
        return [answers[key] for key in keys], usage

    def _connection(self) -> Connection:
        config = self.config
        return Connection(
            self._httpx, config.url, api_key=self._api_key, concurrency=config.concurrency
        )

    def _request(self, messages: Messages, seed: int) -> dict[str, Any]:
        return {
            **({"seed": seed} if seed else {}),
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
        async with self._connection() as connection:

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
        late = JudgeAnswer(None, f"no answer within judge.batch_seconds={config.batch_seconds:g}")
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
        """Repeats one question until it is answered or the attempts are used up."""
        config, failure = self.config, ""
        for attempt in range(config.attempts):
            start, usage.calls = time.monotonic(), usage.calls + 1
            requested_wait = None
            try:
                async with asyncio.timeout(config.timeout_seconds):
                    reply = await connection.post(request)
                usage.tokens_in += reply.tokens_in
                usage.tokens_out += reply.tokens_out
                value = read(reply.text)
                if value is not None:
                    return reply, JudgeAnswer(value)
                failure = "the reply does not have the requested form"
            except TimeoutError:
                failure = f"no reply within {config.timeout_seconds:g} s"
            except RefusedRequest as refusal:
                return None, JudgeAnswer(None, str(refusal))
            except TransientError as error:
                failure, requested_wait = str(error), error.retry_after_seconds
            finally:
                usage.waited_seconds += time.monotonic() - start
            if attempt + 1 < config.attempts:
                await asyncio.sleep(self._wait(attempt, requested_wait))
        return None, JudgeAnswer(None, failure)

    def _wait(self, attempt: int, requested: float | None) -> float:
        """Seconds before the next attempt: requested by the server, or random and growing.

        A requested wait that does not end within the batch's limit is ignored: it would use up the
        batch, and servers also send nonsense.
        """
        config = self.config
        if requested is not None and requested < config.batch_seconds:
            return requested + random.uniform(0.0, 0.1)
        longest = min(config.first_wait_seconds * 2**attempt, config.longest_wait_seconds)
        return random.uniform(0.0, longest)


def _api_key(variable: str) -> str:
    """The key in an environment variable; empty if no variable is given.

    Raises:
        UserError: the variable is not set, or the key is not valid in an HTTP header.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"judge.api_key_variable={variable}: this environment variable is not set")
    if not key.isascii() or not key.isprintable():
        raise UserError(f"judge.api_key_variable={variable}: the key is not printable ASCII")
    return key
