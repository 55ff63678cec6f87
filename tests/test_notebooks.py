"""The notebooks: each is the program beside it, and prints what it shows."""

import contextlib
import io
import json
import re
from pathlib import Path

import jax
import matplotlib.pyplot as plt
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


def numbers(text):
    """Those in a text."""
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


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


@pytest.fixture
def as_a_user_has_it(monkeypatch):
    """JAX with its defaults, figures that nobody looks at, and all as it was afterwards."""
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    x64 = jax.config.jax_enable_x64
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_x64", x64)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(program, as_a_user_has_it):
    names = {"__name__": "__main__"}
    for cell in notebook(program):
        if cell["cell_type"] == "code":
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                exec(compile("".join(cell["source"]), program.stem, "exec"), names)
            printed, kept = told.getvalue(), shown(cell)
            assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", kept).split()
            # Training rounds otherwise on other processors; a twentieth, or a few units of what counts examples.
            assert numbers(printed) == pytest.approx(numbers(kept), rel=0.05, abs=3), printed
