"""Errors of one clear line, with the nearest valid word."""

import sys
import unicodedata

import pytest

from dvaojax.cli.exit_codes import fail
from dvaojax.errors import UserError, import_extra, nearest, printable


def test_nearest_is_one_of_the_choices():
    keys = ["optimizer.learning_rate", "optimizer.b1", "num_steps"]
    assert nearest("learning_rate", keys) == "optimizer.learning_rate"
    assert nearest("numsteps", keys) == "num_steps"
    assert nearest("zzz", keys) in keys
    assert nearest("x", []) is None


def test_import_extra_names_the_missing_extra():
    assert import_extra("json", extra="none").loads("1") == 1
    with pytest.raises(
        UserError,
        match=r"^nowhere is not installed: pip install '.\[hf\]' in the checkout of dvaojax$",
    ):
        import_extra("nowhere", extra="hf")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é漢😀", "plain text, é漢😀"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2J\x1b[31mred", r"\x1b[2J\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\n\tb\x00\x7f", r"a\r\n\tb\x00\x7f"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("a\u2028b\u2029c\u200bd\ufeff", r"a\u2028b\u2029c\u200bd\ufeff"),
        ("half \ud800", r"half \ud800"),
        ("narrow\u202fspace", "narrow\u202fspace"),
    ],
)
def test_printable_escapes_what_a_terminal_would_obey(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_printable_text_has_no_control_character():
    text = printable("".join(map(chr, range(sys.maxunicode + 1))))
    assert not {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    text.encode()


def test_last_line_of_a_failed_command_is_one_printable_line(capsys):
    assert fail("tensor 'a\x1b[2J' \n is\u2028missing \ud800", 2) == 2
    assert capsys.readouterr().err == "dvaojax: tensor 'a\\x1b[2J' is missing \\ud800\n"
