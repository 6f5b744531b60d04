"""Conclusions in "Choosing a method" (aggregators/README.md), checked against the results."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
SUMS = ("grpo", "reward_combination", "dvao")
Z_SCORES = ("gdpo", "advantage_combination")


@pytest.fixture(scope="module")
def cells():
    """Means of all cells by measure, step, variant and method, in percent."""
    results = json.loads((RESULTS / "bandit.json").read_text())["cells"]
    return {
        (measure, cell["step"], cell["variant"], cell["method"]): 100 * cell[measure][0]
        for cell in results
        for measure in ("progress", "hypervolume")
    }


@pytest.fixture(scope="module")
def variants(cells):
    every = {variant for _, _, variant, _ in cells}
    assert every == {"plain", "noisy", "conflict", "scaled", "rare", "saturated"}
    return every


@pytest.fixture(scope="module")
def ahead(cells, variants):
    """Function: the variants in which one method is ahead of another by more than `by` points."""

    def where(one, other, step, measure="progress", by=0.0):
        return {
            variant
            for variant in variants
            if cells[measure, step, variant, one] > cells[measure, step, variant, other] + by
        }

    return where


@pytest.fixture(scope="module")
def differs_from_dvao():
    """Function: the variants of the shoot-out in which a method is better or worse than `dvao`."""
    table = (RESULTS / "shootout" / "report.md").read_text().partition("\n\n## ")[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]

    def where(method, sign):
        row = next(cells for name, *cells in rows if name == f"`{method}`")
        return {variant for variant, cell in zip(head[1:], row, strict=True) if sign in cell}

    return where


def test_dvao_and_reward_combination_differ_by_less_than_a_point(ahead, differs_from_dvao):
    for step in ("equal", "own"):
        assert not ahead("dvao", "reward_combination", step, by=1.0)
        assert not ahead("reward_combination", "dvao", step, by=1.0)
    for sign in "+-":
        assert differs_from_dvao("reward_combination", sign) == set()


def test_gdpo_is_ahead_of_dvao_with_the_network(differs_from_dvao):
    assert differs_from_dvao("gdpo", "+") == {"noisy"}
    assert differs_from_dvao("gdpo", "-") == set()


def test_z_scores_are_ahead_except_with_noise_at_tuned_rates(ahead, variants):
    for z_score in Z_SCORES:
        for method in SUMS:
            assert ahead(z_score, method, "equal") == variants
            assert "scaled" in ahead(z_score, method, "equal", by=10.0)
            assert "noisy" in ahead(method, z_score, "own", by=1.0)


def test_dr_grpo_is_ahead_of_dvao_if_rewards_share_a_unit(ahead, variants):
    assert ahead("dr_grpo", "dvao", "equal") == variants - {"scaled"}


def test_the_variants_of_dvao(ahead, variants):
    assert ahead("dvao_shrunk", "dvao", "equal") == variants
    assert ahead("dvao_denoised", "dvao", "equal", by=1.0) == {"noisy"}
    assert ahead("dvao", "dvao_denoised", "own", by=1.0) == {"noisy"}


def test_specialised_methods(ahead, variants, differs_from_dvao):
    assert "conflict" in ahead("dvao", "rvpo", "equal")
    assert "conflict" not in differs_from_dvao("rvpo", "+")
    assert ahead("dvao", "gd2po_hard", "equal") == variants
    for method in ("dara_symmetric", "sa_mrpo"):
        assert "rare" not in ahead(method, "gdpo", "equal", by=1.5)
        assert "rare" in ahead(method, "gdpo", "equal", "hypervolume", by=5.0)
    assert "saturated" not in ahead("sa_mrpo", "gdpo", "equal")
