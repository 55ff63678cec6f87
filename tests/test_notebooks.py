"""The notebooks: each is the program beside it, and prints what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
PROGRAMS = sorted(NOTEBOOKS.glob("*.py"))


def cells(program):
    """(kind, source) of each cell of a program whose cells begin with `# %%`."""
    _, *parts = re.split(r"^# %%(.*)\n", program.read_text(), flags=re.MULTILINE)
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in heading:
            yield "markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()
        else:
            yield "code", text.strip()


def notebook(program):
    """The cells of the notebook that is kept beside a program."""
    return json.loads(program.with_suffix(".ipynb").read_text())["cells"]


def shown(cell):
    """What a cell printed when the notebook was made."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


def agree(printed, kept):
    """Whether the texts are the same but for numbers that training rounds otherwise on another processor.

    A twentieth is allowed; two hundredths of a small number; three of what is counted.
    """

    def close(number, other):
        slack = 0.02 if "." in other else 3
        expected = pytest.approx(float(other.replace(",", "")), rel=0.05, abs=slack)
        return float(number.replace(",", "")) == expected

    pairs = zip(NUMBER.findall(printed), NUMBER.findall(kept), strict=False)
    return NUMBER.sub("#", printed).split() == NUMBER.sub("#", kept).split() and all(close(*pair) for pair in pairs)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_program(program):
    kept = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook(program)]
    assert kept == list(cells(program))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_notebook_draws_its_figures_and_speaks_of_no_machine(program):
    text = program.with_suffix(".ipynb").read_text()
    outputs = [output for cell in notebook(program) for output in cell.get("outputs", ())]
    assert (
        sum("image/png" in output.get("data", {}) for output in outputs) == program.read_text().count("plt.show()") > 0
    )
    assert not re.search(r"/home/|/root/|/tmp/|Warning|Traceback", text)


# Runs cells, which it is handed as JSON, and hands back what each printed.
RUNNER = """
import contextlib, io, json, sys

names, told = {"__name__": "__main__"}, []
for source in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "<cell>", "exec"), names)
    told.append(printed.getvalue())
json.dump(told, sys.stdout)
"""


def printed_by(cells):
    """What each cell prints when a new process runs them all, with JAX's defaults and figures that nobody sees."""
    given = json.dumps(["".join(cell["source"]) for cell in cells])
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", RUNNER]
    ran = subprocess.run(command, input=given, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(program):
    code = [cell for cell in notebook(program) if cell["cell_type"] == "code"]
    for cell, printed in zip(code, printed_by(code), strict=True):
        assert agree(printed, shown(cell)), printed


def test_a_number_that_is_another_is_seen():
    assert agree("loss 0.150 nats, 8 of 100", "loss 0.155 nats, 10 of 100")
    assert not agree("loss 0.150 nats", "loss 0.190 nats")
    assert not agree("loss 0.150 nats", "lost 0.150 nats")
    assert not agree("1,200 images", "1,300 images")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_notebook_has_one_title_and_it_is_its_own(program):
    titles = re.findall(r"^# # (.+)$", program.read_text(), re.MULTILINE)
    assert [re.sub(r"\W+", "-", title.lower().partition(",")[0]) for title in titles] == [program.stem]
