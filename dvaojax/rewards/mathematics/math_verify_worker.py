"""Run as a script by `math_verify_client`: answers questions for math-verify, one JSON line each.

A question is `["score" | "equivalent", answer, gold, seconds]`, the answer `true` or `false`. A
question that takes longer than its seconds of processor time, or more memory than there is, ends
the process.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import sys

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_LARGEST_BYTES = 4 * 2**30


def score(text: str, gold: str) -> bool:
    """verl's call: the gold in a box, read as LaTeX; the text as LaTeX or a plain number.

    volcengine/verl b178a3cd, `utils/reward_score/math_verify.py`, whose precision of 6 decimals is
    math-verify's own.
    """
    golds = parse(f"\\boxed{{{gold}}}", [LatexExtractionConfig()], parsing_timeout=0)
    answers = parse(text, [ExprExtractionConfig(), LatexExtractionConfig()], parsing_timeout=0)
    return verify(golds, answers, timeout_seconds=0)


def equivalent(answer: str, gold: str) -> bool:
    """Two answers, each in a box."""
    boxed = [LatexExtractionConfig(boxed_match_priority=0)]
    golds, answers = (
        parse(f"\\boxed{{{text}}}", boxed, parsing_timeout=0) for text in (gold, answer)
    )
    return verify(golds, answers, timeout_seconds=0)


def main() -> None:
    """Answers until the questions end."""
    logging.disable(logging.CRITICAL)
    # What a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit and refuses it.
        resource.setrlimit(resource.RLIMIT_AS, (_LARGEST_BYTES, _LARGEST_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whoever started this process may ignore or block the timer's signal, and it would inherit
    # that: libtpu ignores it wherever it is loaded.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        question, answer, gold, seconds = json.loads(line)
        # No handler: the signal ends the process even inside a loop that runs no Python.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            verdict = {"score": score, "equivalent": equivalent}[question](answer, gold)
        except Exception:
            verdict = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if verdict else "false", file=answers, flush=True)


if __name__ == "__main__":
    main()
