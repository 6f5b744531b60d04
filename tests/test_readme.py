"""The README is true: its commands and code run, and its tables are those of the package.

How a fenced block is executed, by its language:

- `python`: in a Python of its own. If its first line is `# NAME.py`, it is also written to that
  file, for the commands after it.
- `bash`: line by line, in one directory for the whole document. `dvaojax` runs in this process, and
  `train` in miniature: the settings of `tiny_run` come last. `pip` and `pytest` are `.ci/run`'s.
- `text` is shown, not run. There is no other language.

The commands in miniature and the main job in full are slow tests.
"""

import itertools
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from test_staircase import FLOORS
from tiny_run import TINY, compilation_cache

import dvaojax.types
from dvaojax import aggregators, cli, losses
from dvaojax.aggregators import methods
from dvaojax.losses import methods as loss_methods

ROOT = Path(__file__).parents[1]
KNOBS = {"threshold", "noise"}
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def section(title):
    """The text under a heading."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.M | re.S).group(1)


def rows(text):
    """The cells of the rows of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def commands_of(code):
    """The commands of a `bash` block, each split into words, without its comments."""
    parts = [part for line in code.splitlines() for part in line.split(" && ")]
    return [shlex.split(part, comments=True) for part in parts]


def every_command():
    """The commands of all `bash` blocks."""
    codes = [code for language, code in BLOCKS if language == "bash"]
    return [words for code in codes for words in commands_of(code)]


def commands(program):
    """Those that begin with a program's name."""
    return [words for words in every_command() if words[0] == program]


def test_blocks_are_of_a_kind_that_is_run():
    assert {language for language, _ in BLOCKS} == {"bash", "python", "text"}
    assert {words[0] for words in every_command()} == {"pip", "pytest", "dvaojax"}


def test_ci_runs_the_commands_that_this_test_leaves_to_it():
    assert commands("pip") == [["pip", "install", "."], ["pip", "install", ".[dev]"]]
    assert commands("pytest") == [["pytest", "-n", "auto", "--dist", "worksteal"]]
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"README_TESTS='(.*)'", script).group(1)
    found = [line for line in README.splitlines() if re.fullmatch(pattern, line)]
    assert found == ["pip install '.[dev]' && pytest -n auto --dist worksteal"]


def test_links_lead_to_headings_and_files():
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    inside = {target[1:] for target in targets if target.startswith("#")}
    files = {target for target in targets if not target.startswith(("#", "https://"))}
    assert inside
    assert inside <= anchors
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []


@pytest.mark.slow
def test_every_command_does_what_it_says(tmp_path, tmp_path_factory, monkeypatch):
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    with compilation_cache(tmp_path_factory.getbasetemp() / "compiled"):
        for language, code in BLOCKS:
            name = re.match(r"# (\w+\.py)\n", code)
            if language == "python" and name:
                Path(name.group(1)).write_text(code)
            elif language == "bash":
                for command in commands_of(code):
                    run_in_miniature(command)
    runs = {path.name for path in (tmp_path / "runs").iterdir()}
    smoke = {"arithmetic-smoke", "vpo-arithmetic-smoke"}
    assert runs == {"arithmetic", "gdpo", "gentle", "reverse", *smoke}
    assert (tmp_path / "comparison" / "trade_off.png").is_file()


def run_in_miniature(command):
    program, *arguments = command
    if program != "dvaojax":
        return
    if arguments[0] == "train" and "--smoke" not in arguments:
        arguments += ["--set", *TINY]
    assert cli.main(arguments) == 0, command


@pytest.mark.parametrize(
    "code", [code for language, code in BLOCKS if language == "python"], ids=lambda c: c[:20]
)
def test_code_runs_as_it_stands(code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for promised in re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE):
        assert promised in done.stdout


def test_the_example_of_aggregators_alone_is_short_and_alone():
    code = next(code for language, code in BLOCKS if language == "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    assert set(re.findall(r"^(?:from|import) (\S+)", code, re.M)) == {
        "jax.numpy",
        "dvaojax.aggregators",
    }


def cited(row):
    """A catalogue's paper, as a table has it."""
    return row.credit.format(f"[{row.paper.name}]({row.paper.link})" if row.paper else "")


def cell(markdown):
    return markdown.replace("|", "\\|")


def test_the_table_of_methods_is_that_of_the_catalogue():
    expected = [
        [f"`{name}`", cell(row.equation), cited(row)] for name, row in methods.ROWS.items()
    ]
    assert rows(section("Methods")) == expected


def test_the_table_of_losses_is_that_of_the_catalogue_and_the_signatures():
    means = {losses.token_mean: "tokens", losses.sequence_mean: "sequences"}
    expected = []
    for name, row in loss_methods.ROWS.items():
        loss = losses.BY_NAME[name]
        knobs = " ".join(f"`{knob}={value:g}`" for knob, value in losses.knobs_of(loss).items())
        mean = means[losses.reduction_of(loss)]
        expected.append([f"`{name}`", cell(row.equation), knobs, mean, cited(row)])
    assert rows(section("Losses")) == expected


def test_what_is_recommended_is_there_and_what_is_said_of_it_is_declared():
    recommended = {
        tuple(name for name in re.findall(r"`(\w+)`", row[1]) if name not in KNOBS): row
        for row in rows(section("Choosing a method"))
    }
    known = {**methods.ROWS, **methods.OTHER_FUNCTIONS}
    assert set().union(*recommended) <= known.keys()
    declared = {
        ("dvao", "grpo"): {"order": "sum"},
        ("gdpo", "advantage_combination"): {"scale": "yes", "shift": "yes"},
        ("rvpo", "rvpo_annealed", "augmented_tchebycheff"): {"conflict": "punished"},
    }
    for names, properties in declared.items():
        assert names in recommended
        for name, (key, value) in itertools.product(names, properties.items()):
            assert getattr(known[name], key) == value
    assert known["advantage_combination"].bound == "group"
    assert known["gdpo"].bound == "batch"


def test_the_letters_of_the_equations_are_explained_as_the_catalogues_do():
    for title, letters in (("Methods", methods.SYMBOLS), ("Losses", loss_methods.SYMBOLS)):
        for letter, meaning in letters.items():
            for code in (letter, *re.findall("`([^`]+)`", meaning)):
                assert code.split(", ")[0] in section(title)


def test_the_axis_letters_are_those_of_the_code():
    pairs = r"`(\w)` *\| ([^|]+?) *\|"
    told = dict(re.findall(pairs, section("Axis letters")))
    meant = dict(re.findall(pairs, dvaojax.types.__doc__ or ""))
    assert told == meant
    assert len(told) == 12


def test_the_tree_shows_every_room_on_its_floor():
    lines = section("The tree").partition("```text\n")[2].splitlines()
    floor, shown = -1, {}
    for line in lines:
        entry = re.match(r"  (\w+)(?:\.py|/) +(?:floor (\d))?", line)
        if entry:
            floor = int(entry.group(2) or floor)
            shown[entry.group(1)] = floor
    assert shown == {room: n for room, n in FLOORS.items() if room not in ("", "__main__")}


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = {row[0].strip("`") for row in rows(section("Extras"))}
    assert told == set(project["optional-dependencies"])


def test_what_the_readme_says_of_dvao_is_so():
    rewards = jnp.asarray(np.random.default_rng(0).random((50, 8, 3)), jnp.float32)
    weights = jnp.array([1.0, 0.5, 2.0])
    dvao = aggregators.dvao(rewards, weights)
    combined = aggregators.reward_combination(rewards, weights)
    agreement = aggregators.diagnostics(rewards, weights).agreement
    # Reward combination times one number per group in [0, 1].
    np.testing.assert_allclose(dvao, agreement[:, None] * combined, atol=1e-5)
    assert ((agreement >= 0) & (agreement <= 1)).all()
    # Not invariant to the scale of one reward.
    scaled = aggregators.dvao(rewards * jnp.array([[[9.0, 1.0, 1.0]]]), weights)
    assert not np.allclose(scaled, dvao, atol=1e-2)
    # Weights over deviations give advantage combination over the sum of the weights.
    inverse = weights[None, :] / jnp.std(rewards, axis=1)
    separate = aggregators.advantage_combination(rewards, weights) / weights.sum()
    np.testing.assert_allclose(aggregators.dvao(rewards, inverse), separate, atol=1e-5)


def test_dvao_does_not_resolve_the_collapse_that_gdpo_resolves():
    sums_0_and_1 = [[0.0, 0.0], [1.0, 0.0]]
    sums_0_and_2 = [[0.0, 0.0], [1.0, 1.0]]
    rewards, weights = jnp.array([sums_0_and_1, sums_0_and_2]), jnp.ones(2)
    for method in (aggregators.reward_combination, aggregators.dvao):
        np.testing.assert_allclose(method(rewards, weights), [[-1.0, 1.0], [-1.0, 1.0]], atol=1e-6)
    one, two = aggregators.gdpo(rewards, weights)
    assert two[1] > 1.5 * one[1]


@pytest.mark.slow
def test_the_main_job_reaches_its_targets(tmp_path):
    """`dvaojax train` as the README says it: within what two cores do in five minutes.

    Other tests run beside it, so that it is processor time that is counted.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    idle = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "dvaojax", "train"], cwd=tmp_path, env=environment, check=True
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime - idle.ru_utime - idle.ru_stime
    summary = json.loads((tmp_path / "runs" / "arithmetic" / "summary.json").read_text())
    before, after = summary["before"], summary["after"]
    print(f"main job: {seconds:.0f} s of processor time, before {before}, after {after}")
    assert seconds < 2 * 300
    assert summary["wall_seconds"] > 0
    assert summary["problems"] == 512
    assert before["accuracy"]["mean"] < 0.60
    assert after["accuracy"]["mean"] >= 0.85
    for objective in ("brevity", "format"):
        assert before[objective]["mean"] < 0.75
        assert after[objective]["mean"] >= 0.97
    assert len(list((tmp_path / "runs" / "arithmetic" / "plots").glob("*.png"))) == 5
