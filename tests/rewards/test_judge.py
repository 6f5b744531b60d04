"""The judge's client against a server that is slow, busy, broken or unreachable."""

import asyncio
import contextlib
import email.utils
import gzip
import json
import logging
import multiprocessing
import resource
import sqlite3
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import TOKENS_IN, TOKENS_OUT, Act, JudgeServer, say

from dvaojax.errors import UserError
from dvaojax.rewards.judge import Judge, JudgeConfig
from dvaojax.rewards.judge.cache import ReplyCache, request_key
from dvaojax.rewards.judge.protocol import Reply, TransientError, read_reply, retry_after


def ask(server, *texts, **settings):
    return judge(server, **settings).ask([message(text) for text in texts], read)


def judge(server, **settings):
    url = server if isinstance(server, str) else server.url
    quick = {"first_wait_seconds": 0.01, "timeout_seconds": 5.0, "batch_seconds": 30.0}
    return Judge(JudgeConfig(url=url, **{**quick, **settings}))


def message(text):
    return [{"role": "user", "content": text}]


def read(text):
    return text if text.startswith("yes") else None


def echo(number, request):
    return say("yes " + request["messages"][0]["content"])


def in_turn(*acts):
    """Performs the acts one after the other, then answers."""
    return lambda number, request: acts[number] if number < len(acts) else echo(number, request)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_answers_are_in_order_and_equal_questions_are_sent_once():
    with JudgeServer(echo) as server:
        answers, usage = ask(server, "a", "b", "a", "c")
    assert [answer.value for answer in answers] == ["yes a", "yes b", "yes a", "yes c"]
    assert len(server.requests) == usage.calls == 3
    assert usage.cached == 1
    assert (usage.tokens_in, usage.tokens_out) == (3 * TOKENS_IN, 3 * TOKENS_OUT)
    assert usage.waited_seconds > 0
    asked = {"model": "judge", "temperature": 0.0, "max_tokens": 1024}
    assert all(asked.items() <= request.items() for request in server.requests)


def test_concurrency_limit_is_used_fully():
    with JudgeServer(lambda n, r: say("yes", delay=0.1)) as server:
        _, usage = ask(server, *map(str, range(20)), concurrency=5)
    assert server.most_at_once == 5
    assert usage.waited_seconds >= 20 * 0.1


TRANSIENT = {
    "429": Act(status=429),
    "500": Act(b"oops", status=500),
    "503": Act(status=503, headers={"Retry-After": "nonsense"}),
    "hung up": Act(sent=0),
    "cut": Act(b"x" * 1000, sent=10),
    "not JSON": Act(b"<html>"),
    "empty": Act(b""),
    "not UTF-8": Act(b"\xff\xfe\x00"),
    "an error with 200": Act(b'{"error": "overloaded"}'),
    "a list": Act(b"[]"),
    "no choice": Act(b'{"choices": []}'),
    "choices of another type": Act(b'{"choices": {"0": 1}}'),
    "no text": say(None),
    "text of another type": say(["yes"]),
    "nested": Act(b"[" * 100_000),
    "another answer": say("no"),
    "endless": Act(b" " * (2**22 + 1)),
}


@pytest.mark.parametrize("act", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_transient_failures_are_retried(act):
    with JudgeServer(in_turn(act, act)) as server:
        (answer,), usage = ask(server, "a")
    assert answer.value == "yes a"
    assert usage.calls == 3


@pytest.mark.parametrize("act", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_permanent_failures_use_all_attempts(act):
    with JudgeServer(lambda n, r: act) as server:
        (answer,), usage = ask(server, "a", attempts=2)
    assert answer.value is None
    assert answer.failure
    assert "\n" not in answer.failure
    assert usage.calls == len(server.requests) == 2


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REPLY = say("yes").body
COMPRESSOR = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
BLANKS = b"".join([COMPRESSOR.compress(b" " * 2**20) for _ in range(128)]) + COMPRESSOR.flush()
TWICE = {"Content-Encoding": "gzip, gzip"}
GZIP = {"Content-Encoding": "gzip"}
ODD_RESPONSES = {
    "a wait until a year of 20 digits": Act(
        status=429, headers={"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}
    ),
    "a wait in a time zone of 20 digits": Act(
        status=503, headers={"Retry-After": "Mon, 01 Jan 2027 00:00:00 +99999999999999999999"}
    ),
    "a wait of years": Act(status=503, headers={"Retry-After": "99999999"}),
    "a wait until the year 9999": Act(
        status=429, headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}
    ),
    "blanks, compressed twice": Act(gzip.compress(BLANKS), headers=TWICE),
    "blanks, compressed once": Act(BLANKS, headers=GZIP),
    "blanks, deflated": Act(zlib.compress(b" " * 2**23), headers={"Content-Encoding": "deflate"}),
    "blanks, compressed, in an error": Act(BLANKS, status=500, headers=GZIP),
    "not compressed, but said to be": Act(REPLY, headers=GZIP),
    "cut compression": Act(gzip.compress(REPLY)[:-9], headers=GZIP),
    "another compression": Act(REPLY, headers={"Content-Encoding": "br\x1b[2J"}),
    "an endless reply": Act(raw=OK + b"\r\n", endless=b" " * 2**16),
    "an endless reply in chunks of one byte": Act(raw=CHUNKED, endless=b"1\r\n \r\n" * 2**14),
    "endless headers": Act(raw=OK, endless=b"X: " + b"y" * 2**16 + b"\r\n"),
    "one endless header": Act(raw=OK + b"X: ", endless=b"y" * 2**16),
    "an endless error": Act(raw=b"HTTP/1.1 500 No\r\n\r\n", endless=b"no" * 2**15),
    "an endless trailer": Act(raw=CHUNKED + b"0\r\nX: ", endless=b"y" * 2**16),
    "a chunk of negative length": Act(raw=CHUNKED + b"-5\r\nhello\r\n"),
    "a negative length": Act(raw=OK + b"Content-Length: -1\r\n\r\n"),
    "two lengths": Act(raw=OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "no HTTP": Act(raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
    "TLS": Act(raw=b"\x15\x03\x01\x00\x02\x02\x46"),
    "a header of other bytes": Act(raw=OK + b"\xff\xfe\x1b[2J: \x00\r\n\r\n"),
    "a status of 5 digits": Act(raw=b"HTTP/1.1 20000 OK\r\n\r\n"),
    "no content": Act(status=204),
    "not a number": Act(b'{"choices": NaN}'),
    "a number of 5,000 digits": Act(b'{"choices": ' + b"9" * 5000 + b"}"),
}


@pytest.mark.slow
def test_odd_responses_are_repeated_and_take_little_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, act in ODD_RESPONSES.items():
        with JudgeServer(in_turn(act)) as server:
            (answer,), usage = ask(server, "a", longest_wait_seconds=0.01)
        assert answer.value == "yes a", (name, answer.failure)
        assert usage.calls == 2, name
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 100 * 1024, f"{name}: {grown} KiB"


@pytest.mark.slow
def test_reasons_of_failures_are_printable_and_short():
    for name, act in ODD_RESPONSES.items():
        with JudgeServer(lambda n, r, act=act: act) as server:
            (answer,), _ = ask(server, "a", attempts=1)
        assert answer.value is None, name
        assert answer.failure.isprintable(), (name, answer.failure)
        assert 0 < len(answer.failure) < 300, name


@pytest.mark.parametrize("location", ["/elsewhere", "http://[::1", "http://h:99999999/", "\x1b[2J"])
def test_redirections_are_refused_with_their_target(location):
    moved = Act(status=308, headers={"Location": location})
    with JudgeServer(lambda n, r: moved) as server:
        (answer,), usage = ask(server, "a", attempts=2)
    assert answer.value is None
    assert answer.failure.isprintable()
    assert usage.calls <= 2
    if location == "/elsewhere":
        assert answer.failure == "HTTP 308: redirected to '/elsewhere'; see judge.url"
        assert usage.calls == 1


def test_compressed_reply_is_read():
    for encoding, compress in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        act = Act(compress(REPLY), headers={"Content-Encoding": encoding})
        with JudgeServer(lambda n, r, act=act: act) as server:
            (answer,), usage = ask(server, "a")
        assert (answer.value, usage.calls) == ("yes", 1)
        assert server.headers[0]["Accept-Encoding"] == "identity"


def test_message_of_a_refusal_cannot_control_a_terminal():
    message = b"\x1b]0;owned\x07\x1b[2J no\xff\n" + "\u202e".encode() + b"x" * 2**20
    for body, headers in ((message, {}), (gzip.compress(message), GZIP)):
        act = Act(body, status=400, headers=headers)
        with JudgeServer(lambda n, r, act=act: act) as server:
            (answer,), usage = ask(server, "a")
        assert usage.calls == 1
        assert answer.failure.startswith(r"HTTP 400: \x1b]0;owned\x07\x1b[2J no")
        assert answer.failure.isprintable()
        assert len(answer.failure) < 220


def test_token_counts_of_a_server_are_plausible_or_ignored():
    counts = [10**400, 10**10, -1, True, 1.5, "7", None, [1]]
    body = json.loads(REPLY)
    for count in counts:
        odd = body | {"usage": {"prompt_tokens": count, "completion_tokens": 3}}
        assert read_reply(json.dumps(odd).encode())[1:] == (0, 3)
    assert read_reply(json.dumps(body | {"usage": counts}).encode())[1:] == (0, 0)


def test_half_characters_of_a_reply_are_replaced_and_cached(tmp_path):
    cache = str(tmp_path / "replies")
    with JudgeServer(lambda n, r: say("yes \ud800 \x00")) as server:
        first, _ = ask(server, "a", cache=cache)
        again, usage = ask(server, "a", cache=cache)
    assert first[0].value == again[0].value == "yes \ufffd \x00"
    assert usage.cached == 1


def test_cached_reply_of_another_type_is_asked_again(tmp_path):
    cache = tmp_path / "replies"
    with JudgeServer(echo) as server:
        ask(server, "a", cache=str(cache))
        with contextlib.closing(sqlite3.connect(cache)) as connection, connection:
            connection.execute("UPDATE replies SET text = x'ff00'")
        (answer,), usage = ask(server, "a", cache=str(cache))
    assert answer.value == "yes a"
    assert usage.calls == 1


SECRET_URLS = (
    "http://user:sesame@127.0.0.1/v1",
    "https://sesame@127.0.0.1/v1",
    "user:sesame@127.0.0.1/v1",
    "ftp://user:sesame@127.0.0.1/v1",
    "http://127.0.0.1/v1?api_key=sesame",
    "http://127.0.0.1/v1#sesame",
)


@pytest.mark.parametrize("url", SECRET_URLS)
def test_secrets_in_the_address_are_refused_and_not_shown(url):
    with pytest.raises(ValueError, match=r"judge\.url contains.*judge\.api_key_variable") as caught:
        JudgeConfig(url=url)
    assert "sesame" not in str(caught.value)


def test_a_key_instead_of_its_variable_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="is not the name of an environment variable") as caught:
        JudgeConfig(api_key_variable="sk-sesame")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///v1",
        "http://[::1/v1",
        "http://h:x/v1",
        "http://h:99999/v1",
        "http://h/\x1b",
        "http://a b/",
    ],
)
def test_rejects_what_is_no_address(url):
    with pytest.raises(ValueError, match=r"judge\.url=.* is not an address") as caught:
        JudgeConfig(url=url)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks9://127.0.0.1:1", "ALL_PROXY"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "SSL_CERT_FILE"),
    ],
)
def test_unusable_proxy_or_certificates_give_one_line(monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=words) as caught:
        judge("https://127.0.0.1:9/v1")
    assert str(caught.value).isprintable()


def test_failed_question_does_not_affect_others():
    def act(number, request):
        bad = request["messages"][0]["content"] == "bad"
        return Act(sent=0) if bad else echo(number, request)

    with JudgeServer(act) as server:
        answers, _ = ask(server, "a", "bad", "b", attempts=3)
    assert [answer.value for answer in answers] == ["yes a", None, "yes b"]


def test_retry_after_header_is_respected():
    busy = Act(status=429, headers={"Retry-After": "1"})
    with JudgeServer(in_turn(busy)) as server:
        start = time.monotonic()
        (answer,), _ = ask(server, "a")
    assert answer.value == "yes a"
    assert time.monotonic() - start >= 1.0


def test_retry_after_formats():
    assert retry_after(None) is None
    assert retry_after("7") == 7.0
    assert retry_after("soon") is None
    assert retry_after("-1") is None
    assert retry_after("9" * 400) is None
    assert retry_after(email.utils.formatdate(time.time() - 100, usegmt=True)) == 0.0
    ahead = retry_after(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert ahead is not None
    assert 90 < ahead <= 100
    assert retry_after("Wed, 21 Oct 2015 07:28:00") == 0.0


@given(st.text())
def test_arbitrary_retry_after_headers(header):
    wait = retry_after(header)
    assert wait is None or 0.0 <= wait < 1e12


def test_waits_are_random_and_grow_to_a_limit():
    asking = judge("http://127.0.0.1:9", first_wait_seconds=1.0, longest_wait_seconds=5.0)
    for attempt, longest in enumerate((1.0, 2.0, 4.0, 5.0, 5.0)):
        waits = [asking._wait(attempt, None) for _ in range(200)]
        assert 0.0 <= min(waits) < 0.2 * longest
        assert 0.8 * longest < max(waits) <= longest


def test_slow_reply_times_out():
    for slow in (say("yes", delay=2.0), Act(b"x" * 1000, pace=0.05)):
        with JudgeServer(lambda n, r, slow=slow: slow) as server:
            start = time.monotonic()
            (answer,), _ = ask(server, "a", timeout_seconds=0.15, attempts=2)
        assert time.monotonic() - start < 1.8
        assert answer.failure == "no reply within 0.15 s"


def test_batch_time_limit_keeps_finished_answers():
    def act(number, request):
        slow = request["messages"][0]["content"] == "slow"
        return say("yes", delay=5.0 if slow else 0.0)

    with JudgeServer(act) as server:
        start = time.monotonic()
        answers, _ = ask(server, "quick", "slow", "slow", batch_seconds=0.7)
    assert time.monotonic() - start < 3.0
    assert [answer.value for answer in answers] == ["yes", None, None]
    assert answers[1].failure == "no answer within judge.batch_seconds=0.7"


def test_refusal_is_not_retried_and_hides_the_key(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("JUDGE_KEY", "sk-1234567")
    refused = Act(b"no such key:\n sk-1234567", status=401)
    with JudgeServer(lambda n, r: refused) as server:
        asking = judge(server, api_key_variable="JUDGE_KEY")
        (answer,), usage = asking.ask([message("a")], read)
    assert answer.failure == "HTTP 401: no such key: ***"
    assert usage.calls == 1
    assert server.headers[0]["Authorization"] == "Bearer sk-1234567"
    assert "sk-1234567" not in caplog.text + repr(asking.config) + repr(vars(asking.config))


def test_no_authorization_header_without_key():
    with JudgeServer(echo) as server:
        ask(server, "a")
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("key", "message"), [(None, "not set"), ("", "not set"), ("a\nb", "not printable")]
)
def test_invalid_key_is_rejected_and_not_shown(monkeypatch, key, message):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(UserError, match=f"api_key_variable=JUDGE_KEY: .*{message}") as caught:
        judge("http://127.0.0.1:9", api_key_variable="JUDGE_KEY")
    assert "a\nb" not in str(caught.value)


def test_unreachable_server_fails_every_question():
    with JudgeServer(echo) as server:
        pass
    answers, usage = ask(server, "a", "b", attempts=2)
    assert [answer.failure.partition(":")[0] for answer in answers] == ["ConnectError"] * 2
    assert usage.calls == 4


def test_empty_batch_needs_no_server():
    assert judge("http://127.0.0.1:9").ask([], read)[0] == []


def test_arbitrary_text_reaches_the_judge():
    texts = ["\x00", "é漢😀", '"}]}', "x" * 100_000, ""]
    with JudgeServer(echo) as server:
        answers, _ = ask(server, *texts)
    assert [answer.value for answer in answers] == ["yes " + text for text in texts]


def test_works_inside_an_event_loop():
    async def notebook():
        return ask(server, "a")

    with JudgeServer(echo) as server:
        (answer,), _ = asyncio.run(notebook())
    assert answer.value == "yes a"


def test_missing_httpx_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(UserError, match=r"httpx is not installed: pip install '.\[judge\]'"):
        judge("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "localhost:8000"}, "is not an address such as http://"),
        ({"model": ""}, "judge.model is empty"),
        ({"attempts": 0}, "judge.attempts=0 must be at least 1"),
        ({"concurrency": 0}, "judge.concurrency=0"),
        ({"timeout_seconds": 0.0}, "judge.timeout_seconds=0.0 must be positive"),
        ({"temperature": -1.0}, "judge.temperature=-1.0 must not be negative"),
    ],
)
def test_rejects_settings_out_of_range(settings, words):
    with pytest.raises(ValueError, match=words):
        JudgeConfig(**settings)


def test_cached_replies_are_reused(tmp_path):
    cache = str(tmp_path / "new" / "replies.sqlite")
    with JudgeServer(in_turn(say("no"))) as server:
        first, _ = ask(server, "a", "b", cache=cache)
        again, usage = ask(server, "b", "a", "a", cache=cache)
        assert [answer.value for answer in again] == ["yes b", "yes a", "yes a"]
        assert usage.calls == usage.tokens_in == 0
        assert usage.cached == 3
        calls = len(server.requests)
        other, _ = ask(server, "a", cache=cache, temperature=0.5)
        another, _ = ask(server, "a", cache=cache, model="other")
        assert len(server.requests) == calls + 2, "another model or parameter is another question"
    assert first[0] == other[0] == another[0]


def test_failures_and_invalid_replies_are_not_cached(tmp_path):
    cache = str(tmp_path / "replies")
    with JudgeServer(lambda n, r: say("no")) as server:
        assert ask(server, "a", cache=cache, attempts=1)[0][0].value is None
    with JudgeServer(echo) as server:
        assert ask(server, "a", cache=cache)[0][0].value == "yes a"
        reply, _ = judge(server, cache=cache).ask([message("a")], lambda text: text[::-1] or None)
    assert reply[0].value == "a sey"


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + b"\1" * 5000])
def test_damaged_cache_gives_a_one_line_error(tmp_path, content):
    path = tmp_path / "replies"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"judge\.cache=.*replies: .*; delete the file") as caught:
        judge("http://127.0.0.1:9", cache=str(path))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_cache_damaged_during_a_run_gives_a_one_line_error(tmp_path):
    path = tmp_path / "replies"
    with JudgeServer(echo) as server:
        asking = judge(server, cache=str(path))
        path.write_bytes(b"gone" * 5000)
        with pytest.raises(UserError, match=r"judge\.cache=.*delete the file"):
            asking.ask([message("a")], read)


def test_rejects_directory_as_cache(tmp_path):
    with pytest.raises(UserError, match=r"judge\.cache="):
        judge("http://127.0.0.1:9", cache=str(tmp_path))


def fill(path, first):
    """Stores 60 replies, half of which another writer stores too."""
    cache = ReplyCache(path)
    for i in range(first, first + 60):
        with cache.session() as session:
            session.put(request_key({"number": i}), f"reply {i}")


def test_threads_and_processes_share_a_cache(tmp_path):
    path = tmp_path / "replies"
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=fill, args=(path, 0))
    process.start()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda first: fill(path, first), (30, 60, 90, 120)))
    process.join(60)
    assert process.exitcode == 0
    with ReplyCache(path).session() as session:
        replies = [session.get(request_key({"number": i})) for i in range(180)]
    assert replies == [f"reply {i}" for i in range(180)]


def test_threads_share_a_judge():
    results = {}
    with JudgeServer(echo) as server:
        asking = judge(server)

        def work(name):
            results[name] = asking.ask([message(f"{name}{i}") for i in range(5)], read)[0]

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in "abc":
        assert [a.value for a in results[name]] == [f"yes {name}{i}" for i in range(5)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens"]), inner
        )
    ),
    max_leaves=8,
)


@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
def test_arbitrary_body_is_a_reply_or_a_transient_error(body):
    try:
        reply = read_reply(body)
    except TransientError:
        return
    assert isinstance(reply, Reply)
    assert isinstance(reply.text, str)
    assert min(reply.tokens_in, reply.tokens_out) >= 0
