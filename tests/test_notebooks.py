"""The notebooks are stored without outputs, and run from top to bottom without errors.

Each notebook runs in its own kernel, in an empty directory, with the package already installed.
Long runs are shortened by environment variables that the notebooks read.
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
README = (ROOT / "colab" / "README.md").read_text()
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
REPOSITORY = "OWNER/dvaojax"
COLAB = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/colab"
FILES = f"https://github.com/{REPOSITORY}/blob/main"

# A published chat template with an option to disable thinking, as in Qwen3's.
TEMPLATE = (
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
def test_is_stored_without_outputs_and_with_standard_metadata(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", cell.id), "the id of a cell is a name"
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
def test_first_cell_has_a_colab_badge_and_the_run_time(path):
    notebook = read(path)
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert f"colab-badge.svg)]({COLAB}/{path.name})" in first
    assert re.search(r"\*\*Run time:\*\* .*(second|minute|hour)", first)


@every_notebook
def test_first_code_cell_installs_the_package_if_it_is_missing(path):
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].id == "install"
    pip_cells = [cell.id for cell in code if re.search(r"\bpip\b", cell.source)]
    assert pip_cells == ["install"]
    assert 'find_spec("dvaojax") is None' in code[0].source
    assert f'REPOSITORY = "https://github.com/{REPOSITORY}"' in code[0].source


@every_notebook
def test_imports_public_modules_only(path):
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    lines = re.findall(r"^(?:from|import) dvaojax.*$", "\n".join(code), re.MULTILINE)
    assert lines
    assert [line for line in lines if re.search(r"[. ]_", line)] == []


@every_notebook
def test_links_to_files_of_the_repository_exist(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for file, anchor in re.findall(rf"\]\({FILES}/([^)#]+)#?([^)]*)\)", text):
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE)
        assert anchor in {"", *(heading.lower().replace(" ", "-") for heading in headings)}
    names = re.findall(r"`(\w+\.ipynb)`", text)
    assert set(names) <= {other.name for other in NOTEBOOKS}


def test_readme_links_to_every_notebook():
    links = re.findall(r"\[(\w+)\]\((\w+\.ipynb)\)", README)
    assert links == [(path.stem, path.name) for path in NOTEBOOKS]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a notebook in an empty directory; returns it with its outputs."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def execute(name, *, repeat="", **environment):
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        notebook = read(ROOT / "colab" / f"{name}.ipynb")
        client = NotebookClient(notebook, kernel_name="python3", timeout=None)
        with client.setup_kernel(cwd=str(work)):
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
            for number, cell in enumerate(notebook.cells):
                if cell.id == repeat:
                    client.execute_cell(cell, number)
        return notebook

    return execute


def printed(notebook, cell_id):
    """The text that a cell printed."""
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    return "".join(output.get("text", "") for output in cell.outputs)


def figures(notebook):
    """The ids of the cells that show a figure, once per figure."""
    return [
        cell.id
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.slow
def test_notebook_01_aggregators(run):
    notebook = run("01_aggregators")
    for exercise in ("exercise-1", "exercise-2", "exercise-3"):
        assert printed(notebook, exercise) == "not yet\n"
    assert printed(notebook, "solutions") == "right\n" * 3
    changes = ["conflict", "saturation", "noise", "scale", "missing"]
    assert figures(notebook) == [
        "objectives", "effective-weights", "agreement", *changes, "sensitivities", "trade-off",
    ]  # fmt: skip


@pytest.mark.nightly  # its commands are those of the documents, which the slow tests run
def test_notebook_02_train_tiny(run):
    notebook = run("02_train_tiny", DVAOJAX_SETTINGS=" ".join(TINY))
    assert figures(notebook) == ["train", "other", "pareto"]
    for cell, method in (("before-and-after", "dvao"), ("other", "gdpo")):
        assert f"{method}: 8 problems" in printed(notebook, cell)
    assert printed(notebook, "samples").count("advantage") == 4


@pytest.mark.nightly  # what it plugs in is tested by config/test_plugins.py
def test_notebook_04_your_own_improves_the_rewards(run):
    notebook = run("04_your_own")
    assert "a      0.0 0.0 None" in printed(notebook, "reward-check")
    assert figures(notebook) == ["pictures"]
    assert printed(notebook, "samples").count("advantage") == 8
    rows = re.findall(r"^(\w+) +(before|after) +(\S+)", printed(notebook, "results"), re.MULTILINE)
    share = {(objective, when): float(mean) for objective, when, mean in rows}
    assert share["right", "after"] > share["right", "before"] + 0.1
    assert share["brief", "after"] > share["brief", "before"] + 0.1


@pytest.fixture
def local(tmp_path):
    """A directory with a small decoder, its tokenizer and a few problems, in published formats."""
    model = published.make("qwen3 grouped tied", vocab_size=272, bos_token_id=5, eos_token_id=6)
    path = published.save(model, tmp_path / "local" / "checkpoint")
    tokenizer_files.write(
        Path(path), template=TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    problems = tmp_path / "local" / "gsm8k"
    problems.mkdir()
    rows = [{"question": f"{n} and 1?", "answer": f"Add.\n#### {n + 1}"} for n in range(8)]
    for split in ("train", "test"):
        lines = [json.dumps(row) + "\n" for row in rows]
        (problems / f"{split}.jsonl").write_text("".join(lines))
    return problems.parent


@pytest.mark.nightly  # test_experiment_files.py runs such a checkpoint as a slow test
def test_notebook_03_qwen_tpu_with_a_local_model(run, local, tmp_path):
    environment = {"DVAOJAX_LOCAL": str(local), "TFDS_DATA_DIR": str(tmp_path / "data")}
    notebook = run("03_qwen_tpu", repeat="train", **environment)
    assert "3.5 GiB of keys and values" in printed(notebook, "plan")
    assert "train 8, test 8" in printed(notebook, "data")
    # The second execution of the cell resumes the run.
    assert "--resume" in printed(notebook, "train")
    assert "pass@4" in printed(notebook, "evaluate")
    assert figures(notebook) == ["pictures"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(
        printed(notebook, "export").split()
    )
