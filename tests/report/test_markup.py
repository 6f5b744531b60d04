"""Text is escaped, and invisible characters are made visible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported_runs import HOSTILE, Read

from dvaojax.report.markup import Markup, element, visible


@given(st.text())
def test_parsed_html_contains_the_text(text):
    read = Read(element("p", text, title=text, class_="a"))
    assert read.elements == [("p", {"title": visible(text), "class": "a"})]
    assert "".join(read.inside("p")) == visible(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element(text):
    read = Read(element("div", element("p", text), element("bdi", text)))
    assert [tag for tag, _ in read.elements] == ["div", "p", "bdi"]
    visible(text).encode()  # no lone surrogate is left


def test_only_invisible_characters_are_replaced():
    assert visible("a\x00\x1b\r\x7f") == "a␀␛␍␡"
    assert visible("x\u202ey\ud800\x85") == "x⟨U+202E⟩y⟨U+D800⟩⟨U+0085⟩"
    readable = "tab\t, line\n, שלום, مرحبا, 👩\u200d🔬, ∑ w_k"
    assert visible(readable) == readable


def test_attribute_names_and_values():
    markup = element("input", aria_label="a", for_="b", hidden=True, disabled=False, size=None)
    assert markup == '<input aria-label="a" for="b" hidden>'
    assert element("p", None, Markup("<i></i>"), "<") == "<p><i></i>&lt;</p>"
