"""The table of plans: rows that exist, and cells of plans that fit, do not fit or failed."""

import json

import plan_table
import pytest

from dvaojax.plan.chips import parse_slice

PHASE = {
    "memory": {"total": 10 * 2**30},
    "roofline_seconds": {"total": 2.0},
    "compiled": {
        "seconds": 4.0,
        "decode_loops": [
            {"turns": 100, "kernels": 9, "seconds": 0.01},
            {"turns": 300, "kernels": 9, "seconds": 0.03},
        ],
        "operations": ["long"],
    },
}
UPDATE = {**PHASE, "memory": {"total": 12 * 2**30}, "roofline_seconds": {"total": 3.0}}
PLAN = {
    "rollout": PHASE,
    "training": UPDATE,
    "memory_of_a_chip": 16 * 2**30,
    "attainable_seconds": {"rollout": 2.5, "training": 3.2},
    "hours": {"roofline": 1.0, "compiler": 1.6},
}
ENTRY = {"date": "2026-11-28", "versions": {"jax": "0.11"}, "seconds": 90, "plan": PLAN}


def test_rows_are_experiments_and_known_devices():
    for experiment, topology in plan_table.ROWS:
        assert (plan_table.HERE / experiment).is_file()
        assert str(parse_slice(topology)) == topology
    assert plan_table.chosen([]) == list(plan_table.ROWS)
    assert plan_table.chosen(["qwen3_gsm8k.py@v5e:1x1"]) == [("qwen3_gsm8k.py", "v5e:1x1")]
    with pytest.raises(SystemExit, match=r"no row other.py; rows are dvao_"):
        plan_table.chosen(["other.py"])


def test_table_has_both_estimates_and_the_share_of_the_roofline():
    too_large = {"too_large": True, "needed": 0}
    rows = {
        "qwen3_gsm8k.py@v5e:1x1": ENTRY,
        "rvpo_tools.py@h100:8": {**ENTRY, "plan": {**PLAN, "training": too_large}},
    }
    text = plan_table.table(rows)
    assert (
        "| `qwen3_gsm8k.py` | v5e:1x1 | 10.0 / 12.0 of 16.0 | 2.0 + 3.0 | 4.0 + 4.0 | 50% / 75% "
        "| 1.60 / 1.25 | 25.0 | 1.0 to 1.6 | 90 s |" in text
    )
    assert "| `rvpo_tools.py` | h100:8 | does not fit |" in text
    assert text.endswith("Compiled 2026-11-28 with jax 0.11.\n")
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_command_stores_plans_and_replaces_the_table(monkeypatch, tmp_path):
    readme, stored = tmp_path / "README.md", tmp_path / "plans.json"
    readme.write_text(f"before\n{plan_table.BEGIN}\nold\n{plan_table.END}\nafter\n")
    stored.write_text(json.dumps({"qwen3_gsm8k.py@v6e:1x1": ENTRY}))
    monkeypatch.setattr(plan_table, "README", readme)
    monkeypatch.setattr(plan_table, "STORED", stored)
    monkeypatch.setattr(plan_table, "planned", lambda *row: ENTRY if "v5e" in row[1] else None)
    monkeypatch.setattr("sys.argv", ["plan_table.py", "qwen3_gsm8k.py"])
    assert plan_table.main() == 1  # the other rows of the experiment failed
    assert set(json.loads(stored.read_text())) == {
        "qwen3_gsm8k.py@v6e:1x1",
        "qwen3_gsm8k.py@v5e:1x1",
    }
    text = readme.read_text()
    assert text.startswith(f"before\n{plan_table.BEGIN}\n| experiment |")
    assert text.endswith(f"{plan_table.END}\nafter\n")
    assert text.count("qwen3_gsm8k.py") == 2
    assert "old" not in text
