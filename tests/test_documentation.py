"""The documents are true: their code and commands run, their links and tables are valid.

A fenced block is executed by its language:

- `python`: in a new interpreter; its output is compared with the `text` block that follows, and
  with comments after `print(...)`. If its first line is `# NAME.py`, it is also written to that
  file for later commands of the document.
- `bash`: command by command, in one directory per document, which has a copy of `experiments/` and
  two runs. `dvaojax train` runs with the settings of `tiny_run.TINY`, scripts with the arguments in
  `SCRIPTS`. `.ci/run` runs `pip`, `pytest`, `ruff` and `pyright`; test_reference.py runs `pdoc`.
- `text` is output, a file or a formula. A `text` block with commands must have a line before it
  that states why the tests do not run it.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import documentation
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documentation import DOCUMENTS, NOT_RUN, ROOT, blocks
from slowness import nightly_but
from tiny_run import STRICT_PYTHON, TINY

from dvaojax import aggregators, cli

TEXTS = {path: path.read_text() for path in DOCUMENTS}
NAMES = {path: str(path.relative_to(ROOT)) for path in DOCUMENTS}
PYTHON_BLOCKS = [
    pytest.param(block, id=f"{NAMES[path]}-{i}")
    for path, text in TEXTS.items()
    for i, block in enumerate(blocks(text))
    if block.language == "python"
]
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=list(NAMES.values()))
WITH_COMMANDS = [
    path
    for path, text in TEXTS.items()
    if any(
        words[0] in ("dvaojax", "python")
        for block in blocks(text)
        if block.language == "bash"
        for words in block.commands
    )
]
# The commands for the experiments train nine runs, which takes more than a minute.
NIGHTLY = {ROOT / "experiments" / "README.md"}

# Run by .ci/run, in the same words.
BY_CI = {"pip", "pytest", "ruff", "pyright"}

# Additional arguments of scripts, with which they take seconds; None: another test runs it.
SCRIPTS = {
    "experiments/minimal_loop.py": None,
    "experiments/bandit.py": ["--methods", "dvao", "--seeds", "4", "--out", "bandit"],
    "experiments/benchmarks/rl_step.py": None,
    "experiments/benchmarks/aggregators.py": None,
    "experiments/benchmarks/rewards.py": ["--answers", "200"],
    "-m": None,
}


def section(path, title):
    """The text under a heading."""
    pattern = rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)"
    return re.search(pattern, TEXTS[path], re.M | re.S).group(1)


def table_rows(text):
    """The cells of the rows of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@every_document
def test_blocks_are_executed_or_state_why_not(path):
    for block in blocks(TEXTS[path]):
        assert block.language in ("python", "bash", "text"), block
        if block.language == "bash":
            known = {"dvaojax", "python", "echo", *BY_CI}
            assert {words[0] for words in block.commands} <= known, block.code
        elif block.language == "text":
            is_command = re.search(r"^(dvaojax|pip|python|git|from|import) \S", block.code, re.M)
            assert not is_command or NOT_RUN.fullmatch(block.before), block.code


@every_document
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in anchors, target


@every_document
def test_generated_tables_are_current(path):
    """`python tests/helpers/documentation.py` writes them."""
    assert documentation.regenerate(TEXTS[path]) == TEXTS[path]


def test_every_generated_table_is_used():
    used = {name for text in TEXTS.values() for name, _ in documentation.generated(text)}
    assert used == set(documentation.TABLES)


def test_the_readme_is_short_and_begins_with_code():
    text = TEXTS[ROOT / "README.md"]
    assert len(text.encode()) <= 8000
    first = [block.language for block in blocks(text)[:3]]
    assert first == ["bash", "python", "text"]
    assert text.index("```python") < 1200


def test_ci_runs_the_commands_that_are_left_to_it():
    script = (ROOT / ".ci" / "run").read_text().replace('"', "")
    left = {
        " ".join(words)
        for text in TEXTS.values()
        for block in blocks(text)
        if block.language == "bash"
        for words in block.commands
        if words[0] in BY_CI and "nightly" not in words
    }
    pattern = re.search(r"README_TESTS='(.*)'", script).group(1)
    (from_readme,) = [
        line for line in TEXTS[ROOT / "README.md"].splitlines() if re.fullmatch(pattern, line)
    ]
    assert from_readme == "pip install '.[dev]' && pytest -n auto --dist worksteal"
    covered = {
        "pip install .[dev]",
        "pytest -n auto --dist worksteal",
        "pip install -e .[dev]",  # the same requirements
        "pip install .",  # the wheel without extras
    }
    for command in left - covered:
        assert command in script, command


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_python_blocks_run(block, tmp_path):
    done = subprocess.run(
        [*STRICT_PYTHON, "-c", block.code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if block.output:
        assert done.stdout == block.output
    for promised in re.findall(r"^print\(.*\)  # (.*)$", block.code, re.MULTILINE):
        assert promised in done.stdout


@pytest.fixture(scope="module")
def runs_directory(tmp_path_factory):
    """A directory with a copy of `experiments/` and two finished runs."""
    directory = tmp_path_factory.mktemp("documents")
    shutil.copytree(
        ROOT / "experiments", directory / "experiments", ignore=shutil.ignore_patterns("results")
    )
    before = Path.cwd()
    os.chdir(directory)
    try:
        for name, method in (("arithmetic", "dvao"), ("gdpo", "gdpo")):
            arguments = ["--set", *TINY, f"aggregator={method}"]
            assert cli.main(["train", "--name", name, *arguments]) == 0
    finally:
        os.chdir(before)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", nightly_but(set(WITH_COMMANDS) - NIGHTLY, WITH_COMMANDS), ids=NAMES.get
)
def test_commands_run(path, runs_directory, tmp_path, monkeypatch):
    work = tmp_path / "work"
    shutil.copytree(runs_directory, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    untouched = {"arithmetic", "gdpo"}
    for block in blocks(TEXTS[path]):
        if block.file:
            Path(block.file).write_text(block.code)
        if block.language == "bash":
            for line in block.code.splitlines():
                if line.startswith("echo "):
                    subprocess.run(line, shell=True, check=True)
            for words in block.commands:
                run_small(words, untouched)
    if NAMES[path] == "experiments/README.md":
        runs = {directory.name for directory in Path("runs").iterdir()}
        assert runs >= {"arithmetic", "gdpo", "gentle", "arithmetic-smoke", "vpo-arithmetic-smoke"}
        assert Path("comparison/trade_off.png").is_file()
        assert Path("comparison.html").is_file()
        assert Path("exported/model.safetensors").is_file()


def run_small(words, untouched):
    """Runs one command of a document, in seconds; `untouched` are runs that the fixture made."""
    program, *arguments = words
    if program == "dvaojax":
        if arguments[0] == "train" and "--smoke" not in arguments:
            arguments += ["--set", *TINY]
        if arguments[0] == "train" and not {"--resume", "--overwrite"} & set(arguments):
            name = dict(itertools.pairwise(arguments)).get("--name", "arithmetic")
            if name in untouched and "--settings" not in arguments and ".py" not in arguments[1]:
                untouched.remove(name)
                shutil.rmtree(Path("runs", name))
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            assert cli.main(arguments) == 0, words
    elif program == "python" and SCRIPTS[arguments[0]] is not None:
        command = [sys.executable, *arguments, *SCRIPTS[arguments[0]]]
        subprocess.run(command, check=True, capture_output=True)


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = table_rows(section(ROOT / "dvaojax" / "README.md", "Extras"))
    assert {row[0].strip("`") for row in extras} == set(project["optional-dependencies"])


def test_the_owner_placeholder_is_explained_where_it_occurs():
    places_with_owner = {
        NAMES.get(path, path.name)
        for path in [*DOCUMENTS, ROOT / "pyproject.toml"]
        if "OWNER/" in path.read_text()
    }
    assert places_with_owner == {"pyproject.toml"}
    assert "# OWNER is a placeholder" in (ROOT / "pyproject.toml").read_text()


AGGREGATORS = ROOT / "dvaojax" / "aggregators" / "README.md"


def test_recommended_methods_exist_and_have_the_stated_properties():
    known = {**aggregators.ROWS, **aggregators.OTHER_FUNCTIONS}
    knobs = {"threshold", "noise"}
    recommended = {
        tuple(name for name in re.findall(r"`(\w+)`", row[1]) if name not in knobs)
        for row in table_rows(section(AGGREGATORS, "Choosing a method"))
    }
    assert set().union(*recommended) <= known.keys()
    stated = {
        ("dvao", "grpo"): {"order": "sum"},
        ("gdpo", "advantage_combination"): {"scale": "yes", "shift": "yes"},
        ("rvpo", "rvpo_annealed", "augmented_tchebycheff"): {"conflict": "punished"},
    }
    for names, properties in stated.items():
        assert names in recommended
        for name, (key, value) in itertools.product(names, properties.items()):
            assert getattr(known[name], key) == value
    assert known["advantage_combination"].bound == "group"
    assert known["gdpo"].bound == "batch"


def test_dvao_compared_with_reward_combination():
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
