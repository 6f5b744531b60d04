"""The notebooks: clean in the repository, and whole when they run from top to bottom.

Each runs in a kernel of its own, in an empty directory, where the package is already installed.
What would take long is made small by variables of the environment that the notebooks name.
"""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import published
import pytest
import tokenizer_files
from nbclient import NotebookClient
from tiny_run import TINY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
OWNED = "OWNER/dvaojax"
COLAB = f"https://colab.research.google.com/github/{OWNED}/blob/main/colab"

# A published template with a switch for thoughts, as Qwen3's.
THINKS_OR_NOT = (
    tokenizer_files.QWEN2_5
    + """
{%- if enable_thinking is defined and not enable_thinking %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}"""
)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


@every_notebook
def test_the_repository_holds_what_was_written_and_nothing_that_was_run(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", cell.id), "a cell has a name, not a number"
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert notebook.metadata.kernelspec == {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    assert notebook.metadata.language_info == {"name": "python"}
    assert set(notebook.metadata) <= {"accelerator", "colab", "kernelspec", "language_info"}
    assert notebook.metadata.colab.name == path.name


@every_notebook
def test_the_first_cell_opens_it_in_colab_and_says_how_long_it_takes(path):
    notebook = read(path)
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert f"colab-badge.svg)]({COLAB}/{path.name})" in first
    assert re.search(r"\*\*Run time:\*\* .*(second|minute|hour)", first)


@every_notebook
def test_one_cell_installs_it_unless_it_is_there(path):
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].id == "install"
    installing = [cell.id for cell in code if re.search(r"\bpip\b", cell.source)]
    assert installing == ["install"]
    assert 'find_spec("dvaojax") is None' in code[0].source
    assert f'REPOSITORY = "https://github.com/{OWNED}"' in code[0].source


def test_the_readme_opens_every_notebook():
    linked = re.findall(r"\]\(colab/(\w+\.ipynb)\)", README)
    opened = re.findall(rf"\({COLAB}/(\w+\.ipynb)\)", README)
    assert linked == opened == [path.name for path in NOTEBOOKS]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a notebook in an empty directory; returns it with its outputs."""
    for name in [name for name in os.environ if name.startswith(("JAX_", "XLA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # Several processes of one notebook compile the same.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def execute(name, *, again="", **environment):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        notebook = read(ROOT / "colab" / f"{name}.ipynb")
        client = NotebookClient(notebook, kernel_name="python3", timeout=None)
        with client.setup_kernel(cwd=str(work)):
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            for number, cell in enumerate(notebook.cells):
                if cell.id == again:
                    client.execute_cell(cell, number)
        return notebook

    return execute


def said(notebook, cell_id):
    """What a cell printed."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(output.get("text", "") for output in cell.outputs)


def pictures(notebook):
    """The names of the cells that drew something, as often as they did."""
    return [
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.slow
def test_aggregators_on_twelve_numbers(run):
    notebook = run("01_aggregators")
    for exercise in ("exercise-1", "exercise-2", "exercise-3"):
        assert said(notebook, exercise) == "not yet\n"
    assert said(notebook, "solutions") == "right\n" * 3
    situations = ["conflict", "saturation", "noise", "scale", "missing"]
    assert pictures(notebook) == [
        "objectives", "effective-weights", "agreement", *situations, "sensitivities", "trade-off",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_small_model_on_three_objectives(run):
    notebook = run("02_train_tiny", DVAOJAX_SETTINGS=" ".join(TINY))
    assert pictures(notebook) == ["train", "other", "pareto"]
    for cell, method in (("before-and-after", "dvao"), ("other", "gdpo")):
        assert f"{method}: 8 problems" in said(notebook, cell)
    assert said(notebook, "samples").count("advantage") == 4


@pytest.mark.slow
def test_what_is_ones_own_trains_and_learns(run):
    notebook = run("04_your_own")
    assert "a      0.0 0.0 None" in said(notebook, "reward-check")
    assert pictures(notebook) == ["pictures"]
    assert said(notebook, "samples").count("advantage") == 8
    found = re.findall(r"^(\w+) +(before|after) +(\S+)", said(notebook, "results"), re.MULTILINE)
    share = {(objective, when): float(mean) for objective, when, mean in found}
    assert share["right", "after"] > share["right", "before"] + 0.1
    assert share["brief", "after"] > share["brief", "before"] + 0.1


@pytest.fixture
def local(tmp_path):
    """A small decoder with its tokenizer, and a few problems, as they are published."""
    model = published.make("qwen3 grouped tied", vocab_size=272, bos_token_id=5, eos_token_id=6)
    path = published.save(model, tmp_path / "local" / "checkpoint")
    tokenizer_files.write(
        Path(path), template=THINKS_OR_NOT, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    problems = tmp_path / "local" / "gsm8k"
    problems.mkdir()
    rows = [{"question": f"{n} and 1?", "answer": f"Add.\n#### {n + 1}"} for n in range(8)]
    for split in ("train", "test"):
        lines = [json.dumps(row) + "\n" for row in rows]
        (problems / f"{split}.jsonl").write_text("".join(lines))
    return problems.parent


@pytest.mark.slow
def test_a_published_model_by_one_variable_in_miniature(run, local, tmp_path):
    places = {"DVAOJAX_LOCAL": str(local), "TFDS_DATA_DIR": str(tmp_path / "data")}
    notebook = run("03_qwen_tpu", again="train", **places)
    assert "3.5 GiB of keys and values" in said(notebook, "plan")
    assert "train 8, test 8" in said(notebook, "data")
    # Run once more, the cell goes on where the run stands.
    assert "--resume" in said(notebook, "train")
    assert "pass@4" in said(notebook, "evaluate")
    assert pictures(notebook) == ["pictures"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(
        said(notebook, "export").split()
    )
