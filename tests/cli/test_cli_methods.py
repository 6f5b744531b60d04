"""`dvaojax methods`: the tables are complete, and every page tells what the code tells."""

import inspect
import re

import pytest

from dvaojax import aggregators, cli, losses, papers
from dvaojax.aggregators.catalogue import BESIDE, CATALOGUE
from dvaojax.allocation.catalogue import CATALOGUE as OF_SHARES
from dvaojax.cli import docstrings, method_page
from dvaojax.losses.catalogue import CATALOGUE as OF_LOSSES

EVERY = [*CATALOGUE, *BESIDE, *OF_LOSSES, *OF_SHARES]


@pytest.fixture
def printed(capsys):
    def run(*arguments):
        assert cli.main(["methods", *arguments]) == 0
        return capsys.readouterr().out

    return run


def test_no_name_is_two_methods():
    assert len(set(EVERY)) == len(EVERY)


def test_the_tables_have_a_row_for_everything(printed):
    lines = printed().splitlines()
    first = [line.split()[0] for line in lines if line.startswith("   ") and line.split()]
    assert [name for name in EVERY if first.count(name) != 1] == []


def test_a_row_says_what_is_declared_and_what_the_signature_says(printed):
    rows = {line.split()[0]: line.split() for line in printed().splitlines() if line.split()}
    assert rows["dvao"][1:] == ["sum", "no", "yes", "group", "yes", "traded", "1", "2605.25604"]
    assert "state" in rows["lagrangian"]
    assert "threshold" in rows["lagrangian"]
    assert "lengths" in rows["opo"]
    assert "key" in rows["vpo"]
    assert "sequences" in rows["gspo"]


def test_every_column_is_explained(printed):
    text = printed()
    for row in (CATALOGUE["dvao"], OF_LOSSES["gspo"], OF_SHARES["gvm"]):
        entries = docstrings.explain(type(row)).entries
        assert entries.keys() == set(row._fields)
        shown = set(row._fields) - {"advantage", "objective", "share", "credit", "also", "family"}
        assert all(re.search(rf"^{name} +{entries[name][:20]}", text, re.M) for name in shown)


@pytest.mark.parametrize("name", EVERY)
def test_a_page_tells_what_the_code_tells(name):
    subject = method_page.find(name)
    page = method_page.page(name)
    said = docstrings.explain(subject.function)
    parameters = inspect.signature(subject.function).parameters
    assert set(said.entries) == set(parameters), "an argument without a word on it, or none"
    for knob, default in subject.knobs.items():
        assert re.search(rf"^  {knob}={re.escape(str(default))} +\S", page, re.M)
    joined = " ".join(page.split())
    assert " ".join(said.gist.split()) in joined
    assert said.confused in joined
    for equation in said.equations:
        assert " ".join(equation.split()) in joined
    paper = subject.row.paper
    if paper is not None:
        entry = "\n".join(f"  {line}" for line in papers.bibtex(paper).splitlines())
        assert entry in page
        assert paper.link in page


@pytest.mark.parametrize("name", [*CATALOGUE, *OF_LOSSES, *OF_SHARES])
def test_every_docstring_has_an_equation_and_what_it_is_confused_with(name):
    subject = method_page.find(name)
    said = docstrings.explain(subject.function)
    assert said.equations
    assert said.confused
    text = inspect.getdoc(subject.function)
    sections = ["Args:", "Returns:", "Raises:"]
    places = [text.find(f"\n{title}\n") for title in sections]
    assert -1 < places[0] < places[1] < places[2]
    of_arrays = {"rewards", "weights", "mask", "logp", "logp_old", "advantages", "where", "lengths"}
    for argument in of_arrays & said.entries.keys():
        assert said.entries[argument].startswith("`["), f"{argument} has no shape"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("dvoa", "dvao"), ("DVOA", "dvao"), ("gspo-tokens", "gspo_token"), ("gd2po", "gd2po_snr")],
)
def test_an_unknown_name_is_answered_with_the_nearest(capsys, written, meant):
    assert cli.main(["methods", written]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"dvaojax: unknown method {written!r}; did you mean {meant!r}?\n"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("DVAO", "dvao"),
        ("Dr.GRPO", "dr_grpo"),
        ("REINFORCE++", "reinforce_plus_plus"),
        ("MO-GRPO", "advantage_combination"),
        ("PPO", "clipped_surrogate"),
    ],
)
def test_a_name_may_be_written_as_the_papers_write_it(printed, written, meant):
    assert printed(written) == printed(meant)


def test_methods_of_the_tables_are_those_that_a_run_can_name():
    assert CATALOGUE.keys() == set(aggregators.METHODS)
    assert OF_LOSSES.keys() == set(losses.BY_NAME)


def test_a_docstring_by_its_parts():
    def documented():
        r"""The gist,
        on two lines.

        $$ a = b \qquad
           c = d $$

        And $$ e $$ too. Then text.

        What it is confused with. Something
        else.

        Args:
            one: of it,
                continued.
            two: `[B]`.

        Returns:
            three: no argument.
        """

    said = docstrings.explain(documented)
    assert said.gist == "The gist, on two lines."
    assert said.equations == ("a = b \\qquad\nc = d", "e")
    assert said.confused == "Something else."
    assert said.entries == {"one": "of it, continued.", "two": "`[B]`."}
