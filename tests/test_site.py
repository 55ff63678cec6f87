"""The site of the documentation, as far as it can be asked without being built: the gate builds it with --strict."""

import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pages import equations, mathematics, notebooks, outside, sources

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def places(nav):
    """Of a navigation the pages, in their order."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            (content,) = entry.values()
            yield from [content] if isinstance(content, str) else places(content)


NAV = list(places(CONFIG["nav"]))


def test_every_page_of_docs_is_in_the_navigation():
    assert [page for page in PAGES if page not in NAV] == [], "name it under nav in mkdocs.yml"


def test_the_navigation_names_each_page_once_and_none_that_is_not_there():
    assert len(NAV) == len(set(NAV))
    made = {sources.place(file) for file in sources.pages_led_to([f"docs/{page}" for page in PAGES])}
    shown = {sources.place(file) for file in sources.SHOWN}
    of_notebooks = {sources.place(file) for file in notebooks.FILES}
    assert [place for place in NAV if place not in {*PAGES, *made, *shown, *of_notebooks}] == []


def test_every_notebook_is_a_page_in_the_navigation_with_what_it_printed_and_drew():
    assert len(notebooks.FILES) >= 2
    for file in notebooks.FILES:
        assert sources.place(file) in NAV
        text, pictures = notebooks.shown(file)
        assert text.startswith("# ")
        assert "```text\n" in text
        assert all(content.startswith(b"\x89PNG") for content in pictures.values())
        assert [f"({name.rsplit('/')[-1]})" in text for name in pictures] == [True] * text.count("![") != []
    there = sources.on_site("[b](a-day-with-per-example-gradients.ipynb)", "docs/notebooks/backpropagation-by-hand.md")
    assert there == "[b](a-day-with-per-example-gradients.md)"


def test_every_example_is_shown_and_listed():
    programs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py"))
    assert len(programs) >= 8
    listed = sources.led_to((DOCS / "examples.md").read_text(), "docs/examples.md")
    assert sorted(listed) == programs
    assert {sources.place(program) for program in programs} <= set(NAV)


def test_the_first_page_prints_what_is_written_below_its_program(capsys):
    page = (DOCS / "index.md").read_text()
    program, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL).groups()
    exec(program, {})
    assert capsys.readouterr().out == printed


def test_the_theme_asks_for_nothing_elsewhere_and_follows_the_system():
    theme = CONFIG["theme"]
    assert theme["font"] is False
    assert {palette.get("scheme") for palette in theme["palette"]} == {None, "default", "slate"}
    assert not [path for path in CONFIG["extra_css"] if "//" in path or not (DOCS / path).is_file()]
    assert "extra_javascript" not in CONFIG


def test_the_gate_builds_it_strictly_with_packages_that_are_named():
    gate = (ROOT / ".ci" / "run").read_text()
    assert "mkdocs build --strict" in gate
    assert "pip install -e '.[dev,docs]'" in gate
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(re.fullmatch(r"[\w\[\]-]+>=[\d.]+", package) for package in extras["docs"])
    assert set(CONFIG["validation"]["links"].values()) | set(CONFIG["validation"]["nav"].values()) == {"warn"}


def test_a_file_of_the_repository_is_linked_to_as_the_page_that_shows_it():
    text = "[a test](../tests/test_site.py), [notes](../CHANGELOG.md#unreleased), [b](how-to/text.md), ![c](scale.png)"
    expected = "[a test](source/tests/test_site.py.md), [notes](changelog.md#unreleased), [b](how-to/text.md), "
    assert sources.on_site(text, "docs/index.md") == f"{expected}![c](scale.png)"
    there = sources.on_site("[a test](../../tests/test_site.py)", "docs/how-to/text.md")
    assert there == "[a test](../source/tests/test_site.py.md)"
    assert sources.on_site("[text](docs/how-to/text.md), [site](https://a.org)", "CONTRIBUTING.md") == (
        "[text](how-to/text.md), [site](https://a.org)"
    )


def test_code_that_names_a_function_leads_to_its_line():
    text = "`jaxnet/layer.py::bind`, `jaxnet/layer.py`, `jaxnet/layer.py::no_such`, `jaxnet/no_such.py::bind`"
    lines = (ROOT / "jaxnet" / "layer.py").read_text().splitlines()
    (line,) = (number for number, line in enumerate(lines, 1) if line.startswith("def bind("))
    page = "../source/jaxnet/layer.py.md"
    assert sources.on_site(text, "docs/derivations/dense.md").split(", ") == [
        f"[`jaxnet/layer.py::bind`]({page}#__codelineno-0-{line})",
        f"[`jaxnet/layer.py`]({page})",
        f"[`jaxnet/layer.py::no_such`]({page})",
        "`jaxnet/no_such.py::bind`",
    ]


def test_what_stands_in_a_block_of_code_is_left_alone():
    text = "````\n```\n`jaxnet/layer.py`\n```\n````\nand\n```python\n# [a](../README.md)\n```\n"
    assert sources.on_site(text, "docs/index.md") == text
    assert sources.led_to(text, "docs/index.md") == set()


def test_a_file_that_holds_a_fence_is_shown_in_a_longer_one():
    assert '\n````python linenums="1"\n' in sources.shown("jaxnet/files.py")
    assert '\n```python linenums="1"\n' in sources.shown("examples/cnn.py")


def test_the_lines_of_a_page_are_those_that_its_html_has():
    html = '<a id="__codelineno-0-1" name="a"></a><a id="__codelineno-0-12"></a><p id="other">'
    assert sources.lines_in(html) == {"__codelineno-0-1", "__codelineno-0-12"}


def test_mathematics_is_typeset_where_it_stands(monkeypatch):
    def convert(latex, display="inline"):
        return f"<math {display}>{latex}</math>"

    monkeypatch.setitem(sys.modules, "latex2mathml.converter", SimpleNamespace(convert=convert))
    html = r'a <span class="arithmatex">\(z &gt; 0\)</span> b <div class="arithmatex">\[' + "\n" + r"y\]</div>"
    expected = 'a <math inline>z > 0</math> b <div class="equation"><math block>y</math></div>'
    assert mathematics.typeset(html) == expected


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ('<script src="https://a.org/b.js"></script>', ["https://a.org/b.js"]),
        ("<script src=//a.org/b.js></script>", ["//a.org/b.js"]),
        ('<link rel="stylesheet" href="http://a.org/b.css">', ["http://a.org/b.css"]),
        ('<img alt="" src="https://a.org/b.png">', ["https://a.org/b.png"]),
        ("@font-face{src:url(https://a.org/b.woff2)}", ["https://a.org/b.woff2"]),
        ('@import "//a.org/b.css";', ["//a.org/b.css"]),
        ('<a href="https://a.org">a</a> <link rel="canonical" href="https://a.org/">', []),
        ('<script src="../assets/b.js"></script><img src="b.png"><style>a{background:url(b.png)}</style>', []),
    ],
)
def test_what_a_page_fetches_from_elsewhere_is_found(text, addresses):
    assert outside.fetched(text) == addresses


def test_a_site_that_fetches_something_is_refused_by_its_page(tmp_path):
    (tmp_path / "lesson").mkdir()
    (tmp_path / "lesson" / "index.html").write_text('<img src="https://a.org/b.png"><script src="b.js"></script>')
    with pytest.raises(ValueError) as error:
        outside.refuse_fetched(tmp_path)
    expected = "lesson/index.html: fetches https://a.org/b.png; the site's pages are read without a network"
    assert str(error.value) == expected
    (tmp_path / "lesson" / "index.html").write_text('<a href="https://a.org">a</a>')
    outside.refuse_fetched(tmp_path)


def test_equations_of_a_docstring_are_no_markup():
    text = "<g_i, d> for `x < 0`: a * b * c.\n\n    code(*x) < 1\n\nArgs:\n  x: (m, *t)."
    expected = "&lt;g_i, d> for `x < 0`: a \\* b \\* c.\n\n    code(*x) < 1\n\nArgs:\n  x: (m, \\*t)."
    assert equations.in_docstring(text) == expected


def test_an_example_of_a_docstring_stays_as_it_is():
    text = "One * line.\n\nExample:\n  >>> 2 * 3 < 7\n  True\n"
    assert equations.in_docstring(text) == "One \\* line.\n\nExamples:\n  >>> 2 * 3 < 7\n  True\n"


def test_inner_products_of_a_page_are_no_tags():
    text = "Of <dy_t, v_s> and <g, d> `<a, b>` <https://a.org> <b>:\n\n    <g_i, d>\n\n```\n<g_i, d>\n```\n<g_i, d>"
    expected = text.replace("Of <dy_t", "Of &lt;dy_t").replace("<g, d> `", "&lt;g, d> `")
    assert equations.in_page(text) == expected.removesuffix("<g_i, d>") + "&lt;g_i, d>"
