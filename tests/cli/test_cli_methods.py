"""`dvaojax methods`: the tables are complete, and the pages agree with the code."""

import inspect
import re

import pytest

from dvaojax import aggregators, allocation, cli, losses, papers
from dvaojax.cli import docstrings, method_page

LOSSES = [*losses.ROWS, *losses.OTHERS]
NAMES = [*aggregators.ROWS, *aggregators.OTHER_FUNCTIONS, *LOSSES, *allocation.ROWS]


@pytest.fixture
def output_of(capsys):
    def run(*arguments):
        assert cli.main(["methods", *arguments]) == 0
        return capsys.readouterr().out

    return run


def test_names_are_unique_except_for_a_loss_and_an_allocation_rule():
    assert {name for name in NAMES if NAMES.count(name) > 1} == {"dynamo"}
    assert len(method_page.find("dynamo")) == 2


def test_tables_have_one_row_per_method(output_of):
    lines = output_of().splitlines()
    first = [line.split()[0] for line in lines if line.startswith("   ") and line.split()]
    assert [name for name in NAMES if first.count(name) != NAMES.count(name)] == []


def test_rows_show_properties_and_signature(output_of):
    rows = {line.split()[0]: line.split() for line in output_of().splitlines() if line.split()}
    assert rows["dvao"][1:] == ["sum", "no", "yes", "group", "yes", "traded", "1", "2605.25604"]
    assert "state" in rows["lagrangian"]
    assert "threshold" in rows["lagrangian"]
    assert "lengths" in rows["opo"]
    assert "key" in rows["vpo"]
    assert "sequences" in rows["gspo"]


def test_columns_are_explained(output_of):
    text = output_of()
    for row in (aggregators.ROWS["dvao"], losses.ROWS["gspo"], allocation.ROWS["gvm"]):
        entries = docstrings.parse(type(row)).entries
        assert entries.keys() == set(row._fields)
        columns = set(row._fields) - {"method", "equation", "credit", "also", "family", "settings"}
        for name in columns:
            assert re.search(rf"^{name} +{re.escape(entries[name][:20])}", text, re.M), name


def test_markdown_tables_have_one_row_per_method(output_of):
    for kind, rows in (("aggregators", aggregators.ROWS), ("losses", losses.ROWS)):
        head, rule, *lines = output_of("--markdown", kind).splitlines()
        assert head.startswith("| name | ")
        assert rule == "|---" * (head.count(" | ") + 1) + "|"
        assert [re.match(r"\| `(\w+)` \| ", line).group(1) for line in lines] == list(rows)


@pytest.mark.parametrize("name", dict.fromkeys(NAMES))
def test_pages_agree_with_the_docstrings(name):
    for entry in method_page.find(name):
        _assert_page_agrees(entry, method_page.page(name))


def _assert_page_agrees(entry, page):
    parts = docstrings.parse(entry.function)
    parameters = inspect.signature(entry.function).parameters
    assert set(parts.entries) == set(parameters), "every argument is documented, and no other"
    for knob, default in entry.knobs.items():
        assert re.search(rf"^  {knob}={re.escape(str(default))} +\S", page, re.M)
    joined = " ".join(page.split())
    assert " ".join(parts.summary.split()) in joined
    assert parts.similar in joined
    for equation in parts.equations:
        assert " ".join(equation.split()) in joined
    paper = entry.row.paper
    if paper is not None:
        entry = "\n".join(f"  {line}" for line in papers.bibtex(paper).splitlines())
        assert entry in page
        assert paper.link in page


@pytest.mark.parametrize("name", dict.fromkeys([*aggregators.ROWS, *losses.ROWS, *allocation.ROWS]))
def test_docstrings_have_an_equation_similar_methods_and_shapes(name):
    for entry in method_page.find(name):
        _assert_docstring_is_complete(entry)


def _assert_docstring_is_complete(entry):
    parts = docstrings.parse(entry.function)
    assert parts.equations
    assert parts.similar
    text = inspect.getdoc(entry.function)
    positions = [text.find(f"\n{title}\n") for title in ("Args:", "Returns:", "Raises:")]
    assert -1 < positions[0] < positions[1] < positions[2]
    arrays = {"rewards", "weights", "mask", "logp", "logp_old", "advantages", "where", "lengths"}
    for argument in arrays & parts.entries.keys():
        assert parts.entries[argument].startswith("`["), f"{argument} has no shape"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("dvoa", "dvao"), ("DVOA", "dvao"), ("gspo-tokens", "gspo_token"), ("gd2po", "gd2po_snr")],
)
def test_unknown_names_are_reported_with_the_nearest(capsys, written, meant):
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
def test_accepts_the_names_of_the_papers(output_of, written, meant):
    assert output_of(written) == output_of(meant)


def test_tables_have_the_methods_that_a_run_can_select():
    assert aggregators.ROWS.keys() == set(aggregators.METHODS)
    assert losses.ROWS.keys() == set(losses.BY_NAME)
    assert allocation.ROWS.keys() == set(allocation.BY_NAME)


def test_parts_of_a_docstring():
    def documented():
        r"""The summary,
        on two lines.

        $$ a = b \qquad
           c = d $$

        And $$ e $$ too. Then text.

        Not to be confused with: something
        else.

        Args:
            one: of it,
                continued.
            two: `[B]`.

        Returns:
            three: no argument.
        """

    parts = docstrings.parse(documented)
    assert parts.summary == "The summary, on two lines."
    assert parts.equations == ("a = b \\qquad\nc = d", "e")
    assert parts.similar == "something else."
    assert parts.entries == {"one": "of it, continued.", "two": "`[B]`."}
