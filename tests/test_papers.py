"""BibTeX entries are valid and agree with the files that cite them."""

import re
import sys

import pytest

from dvaojax import aggregators, allocation, losses, papers
from dvaojax.papers import Paper, bibtex

KNOWN = {name: value for name, value in vars(papers).items() if isinstance(value, Paper)}
CITED = {
    **{aggregators.METHODS[name]: row.paper for name, row in aggregators.ROWS.items()},
    **{getattr(aggregators, name): row.paper for name, row in aggregators.OTHER_FUNCTIONS.items()},
    **{losses.BY_NAME[name]: row.paper for name, row in losses.ROWS.items()},
    **{row.method: row.paper for row in losses.OTHERS.values()},
    **{getattr(allocation, name): row.paper for name, row in allocation.ROWS.items()},
}


@pytest.mark.parametrize("paper", KNOWN.values(), ids=KNOWN)
def test_entry_is_valid_bibtex(paper):
    head, *fields, end = bibtex(paper).splitlines()
    assert re.fullmatch(r"@misc\{[a-z0-9]+,", head)
    assert end == "}"
    fields_by_name = dict(re.fullmatch(r"  (\w+) += \{(.+)\},", field).groups() for field in fields)
    assert fields_by_name["title"] == f"{{{paper.title}}}"
    for text in fields_by_name.values():
        assert text.count("{") == text.count("}")
    for author in fields_by_name.get("author", "Anonymous").split(" and "):
        assert author.strip(" ,") == author != ""
    if paper.arxiv:
        assert re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv)
        assert fields_by_name["eprint"] == paper.arxiv
        assert fields_by_name["year"] == f"20{paper.arxiv[:2]}"
        assert fields_by_name["url"] == f"https://arxiv.org/abs/{paper.arxiv}"


def test_complete_entry():
    paper = Paper("a2026b", "2601.00001", "A Title", "Ann Other and others")
    assert bibtex(paper) == (
        "@misc{a2026b,\n"
        "  title         = {{A Title}},\n"
        "  author        = {Ann Other and others},\n"
        "  year          = {2026},\n"
        "  eprint        = {2601.00001},\n"
        "  archivePrefix = {arXiv},\n"
        "  url           = {https://arxiv.org/abs/2601.00001},\n"
        "}"
    )


def test_code_without_a_paper_is_cited_by_commit():
    entry = bibtex(papers.AMO)
    assert "commit 6e7df03" in entry
    assert "https://github.com/Artessay/Amo}" in entry
    assert "eprint" not in entry
    assert "year" not in entry


def test_every_paper_is_used_and_listed_once():
    also = {row.also for row in aggregators.ROWS.values()}
    assert set(KNOWN.values()) == {paper for paper in {*CITED.values(), *also} if paper}
    for part in ("key", "title", "name"):
        assert len({getattr(paper, part) for paper in KNOWN.values()}) == len(KNOWN)


def test_additional_papers_are_cited_in_the_file():
    for name, row in aggregators.ROWS.items():
        module = sys.modules[aggregators.METHODS[name].__module__]
        docs = f"{module.__doc__} {aggregators.METHODS[name].__doc__}"
        assert row.also is None or f"arXiv {row.also.arxiv}" in docs


def test_first_author_agrees_with_the_files():
    agreed = 0
    for function, paper in CITED.items():
        docs = f"{sys.modules[function.__module__].__doc__} {function.__doc__}"
        if paper and paper.arxiv:
            named = re.search(
                rf"([A-Z][\w-]+)(?: et al\.|(?:, \w+)* and \w+)(?:, \w+)?, arXiv:? ?{paper.arxiv}",
                docs,
            )
            if named and paper.authors:
                first = paper.authors.partition(" and ")[0].strip("{}")
                assert first.endswith(named.group(1)), (function.__name__, named.group())
                agreed += 1
    assert agreed > 30
