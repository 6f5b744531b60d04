"""Texts that a policy may write and that break naive checkers of blocks of `[` and `]`."""

from dvaojax.types import Completion

TEXTS = {
    "empty": "",
    "one character, 100,000 times": "a" * 100_000,
    "one opening marker, 100,000 times": "[" * 100_000,
    "one closing marker, 100,000 times": "]" * 100_000,
    "a digit, 100,000 times, in a block": "[" + "7" * 100_000 + "]",
    "spaces in a block": "[" + " " * 100_000 + "]",
    "a lone surrogate": "\ud800",
    "a lone surrogate in a block": "[\udfff]",
    "NUL": "\x00",
    "NUL in a block": "[\x0042]",
    "10,000 nested brackets": "[" * 10_000 + "]" * 10_000,
    "10,000 nested brackets the wrong way": "]" * 10_000 + "[" * 10_000,
    "an opening marker at the very end": "42[",
    "a closing marker alone": "42]",
    "digits of another script": "[\N{ARABIC-INDIC DIGIT FOUR}\N{ARABIC-INDIC DIGIT TWO}]",
    "full-width digits": "[\N{FULLWIDTH DIGIT FOUR}\N{FULLWIDTH DIGIT TWO}]",
    "a superscript": "[4\N{SUPERSCRIPT TWO}]",
}


def completion(text: str, *, stopped: bool = True, length: int = 3) -> Completion:
    """An answer of `length` tokens."""
    return Completion(text, token_ids=(0,) * length, stopped=stopped)
