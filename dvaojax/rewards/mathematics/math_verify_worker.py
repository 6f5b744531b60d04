"""Script run by `math_verify_client`: answers questions with math-verify, one JSON line each.

A question is `["score" | "equivalent", answer, gold, seconds]`, its answer `true` or `false`. If a
question exceeds its processor time or the available memory, the process ends.
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
    """verl's call: the gold in a box, read as LaTeX; the text as LaTeX or as a plain number.

    volcengine/verl b178a3cd, `utils/reward_score/math_verify.py`, whose precision of 6 decimals is
    math-verify's own.
    """
    golds = parse(f"\\boxed{{{gold}}}", [LatexExtractionConfig()], parsing_timeout=0)
    answers = parse(text, [ExprExtractionConfig(), LatexExtractionConfig()], parsing_timeout=0)
    return verify(golds, answers, timeout_seconds=0)


def equivalent(answer: str, gold: str) -> bool:
    """Whether two answers are equal, each put in a box."""
    boxed = [LatexExtractionConfig(boxed_match_priority=0)]
    golds, answers = (
        parse(f"\\boxed{{{text}}}", boxed, parsing_timeout=0) for text in (gold, answer)
    )
    return verify(golds, answers, timeout_seconds=0)


def main() -> None:
    """Answers questions until standard input ends."""
    logging.disable(logging.CRITICAL)
    # Output printed by libraries must not be read as an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    with contextlib.suppress(ValueError, OSError):  # macOS defines the limit but rejects it.
        resource.setrlimit(resource.RLIMIT_AS, (_LARGEST_BYTES, _LARGEST_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent may ignore or block the timer's signal, and this process would inherit that:
    # libtpu ignores it in every process that loads it.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        question, answer, gold, seconds = json.loads(line)
        # No handler: the signal ends the process even inside a loop in C code.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            verdict = {"score": score, "equivalent": equivalent}[question](answer, gold)
        except Exception:
            verdict = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("true" if verdict else "false", file=answers, flush=True)


if __name__ == "__main__":
    main()
