"""What the pages of docs promise: their programs run, their tables name what is there, their links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest
from claims.program import draw_network

import jaxnet as jn
from jaxnet.experiment.data.named import NAMES
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
ROWS = re.findall(
    r"^\| (S[^|]+) \| [^|]+ \| `(.+)` \| `([\w/]+\.py)(?:::(\w+))?` \|$",
    (DOCS / "from-equation-to-code.md").read_text(),
    re.M,
)


def blocks(page):
    """The programs of a page, and what is written without a language."""
    all_of_them = re.findall(r"```(\w*)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    return [text for language, text in all_of_them if language], [
        text for language, text in all_of_them if not language
    ]


def test_the_three_choices_print_what_is_written_below_them(capsys, without_shape_annotations):
    """A program for each column of the table, after one that sets the scene."""
    programs, printed = blocks("readings.md")
    names: dict = {}
    for program in programs:
        exec(program, names)
    expected = [text for text in printed if text.startswith(("(16, 4)", "random", "norms"))]
    assert len(expected) == 3
    assert capsys.readouterr().out == "".join(expected)
    assert all(program.strip().count("\n") <= 10 for program in programs)


def test_the_deep_network_prints_what_is_written_below_it(capsys, optax_promotion):
    (program,), printed = blocks("scaling.md")
    exec(program, {})
    assert capsys.readouterr().out in printed


def test_the_table_of_the_readmes_first_network_is_what_summary_gives():
    (first, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(first.split("z, cache =")[0], names)
    (written,) = (text for text in blocks("layers.md")[1] if text.startswith("layer "))
    assert jn.summary(names["net"], names["params"], names["x"]) + "\n" == written


def test_the_drawn_network_is_what_the_lesson_draws_today(tmp_path):
    draw_network(tmp_path)
    drawn = (tmp_path / "graph.svg").read_text(encoding="utf-8")
    assert drawn == (DOCS / "lesson-graph.svg").read_text(encoding="utf-8")


def test_every_layer_combinator_and_network_is_on_the_page_of_layers():
    page = (DOCS / "layers.md").read_text()
    made = [
        name
        for name in jn.__all__
        if name.islower() and callable(getattr(jn, name)) and name not in jn.activations.__all__
    ]
    assert "dense" in made
    others = {"load", "restore", "save", "make_step", "make_steps", "make_epoch", "at_leaves", "poisson_batches"}
    assert [name for name in made if name not in others and not re.search(rf"\b{name}\b", page)] == []


@pytest.mark.parametrize(("section", "code", "path", "function"), ROWS)
def test_every_line_of_code_in_the_lessons_table_stands_where_it_says(section, code, path, function):
    text = (ROOT / path).read_text()
    within = text
    if function:
        (node,) = (
            one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.FunctionDef) and one.name == function
        )
        within = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
    assert code in map(str.strip, within.splitlines())


def test_the_lessons_table_covers_s1_to_s13():
    named = {f"S{number}" for row in ROWS for number in re.findall(r"S(\d+)", row[0])}
    assert named == {f"S{number}" for number in range(1, 14)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)", page.read_text()) if not link.startswith("https://")]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_of_the_project_that_a_page_names_is_there(page):
    named = re.findall(r"`((?:jaxnet|tests|scripts|docs)/[\w/.-]+\.\w+)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_figure_is_told_with_the_command_that_writes_it():
    table = (DOCS / "benchmarks.md").read_text().partition("## Figures and the commands that write them")[2]
    rows = re.findall(r"^\| (`[^|]+`) \| `python (scripts/\w+\.py)([^`]*)` \| [^|]+ \|$", table, re.MULTILINE)
    told = {figure: script for figures, script, _ in rows for figure in re.findall(r"`([^`]+)`", figures)}
    assert set(told) == {path.name for kind in ("png", "gif", "svg") for path in DOCS.glob(f"*.{kind}")}
    assert all((ROOT / script).is_file() for script in told.values())


def test_every_data_set_is_on_the_page_of_the_shell():
    page = (DOCS / "cli.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_every_command_for_training_has_options_that_exist():
    commands = [
        options
        for page in PAGES
        for options in re.findall(r"^(?:\$ )?python scripts/train\.py (--(?!help).+)$", page.read_text(), re.MULTILINE)
    ]
    assert len(commands) >= 10
    for options in commands:
        parse(TrainConfig, options.split("#")[0].split())


# What programs import that does not come with jaxnet itself, and what a page says that brings it.
BROUGHT_BY = {
    "sklearn": r"pip install -e '\.\[(train|privacy)\]'",
    "matplotlib": r"pip install -e '\.\[train\]'",
    "dp_accounting": r"pip install -e '\.\[privacy\]'",
    "PIL": r"pip install -e '\.\[images\]'",
    "tokenizers": r"pip install -e '\.\[text\]'",
    "flax": r"pip install flax equinox",
    "equinox": r"pip install flax equinox",
}
WITH_PROGRAMS = [*PAGES, *sorted((ROOT / "examples").glob("*.py")), *sorted((DOCS / "notebooks").glob("*.py"))]


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=lambda page: page.name)
def test_a_page_says_how_what_its_programs_import_is_installed(page):
    text = page.read_text()
    programs = [text] if page.suffix == ".py" else re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    imported = {name for program in programs for name in re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE)}
    for name in imported & BROUGHT_BY.keys():
        assert re.search(BROUGHT_BY[name], text), name
