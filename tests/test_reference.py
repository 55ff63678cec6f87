"""docs/reference: every public name is on a page, with an example that does what is written below it."""

import doctest
import inspect
import pydoc
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

import jaxnet as jn

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
PAGES = {page.name: page.read_text() for page in sorted(REFERENCE.glob("*.md"))}
PUBLIC = [jn, *(value for name in jn.__all__ if isinstance(value := getattr(jn, name), ModuleType)), jn.estimator]
NAMES = [(module, name) for module in PUBLIC for name in module.__all__]


def resolved(path):
    """What the dotted name of a directive means, to Python: a module, or what is in one."""
    module, _, name = path.rpartition(".")
    if not module:
        return import_module(name)
    there = getattr(import_module(module), name, None)
    return import_module(path) if there is None else there


SHOWN = {
    page: [resolved(path) for path in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)] for page, text in PAGES.items()
}


def page_of(value):
    (page,) = (page for page, shown in SHOWN.items() if any(value is one for one in shown))
    return page


def blocks_of(page):
    return "".join(re.findall(r"```pycon\n(.*?)```", PAGES[page], re.DOTALL))


def example_of(value):
    """What its own docstring has for one; of what JAX has documented none is ours."""
    ours = isinstance(value, ModuleType) or getattr(value, "__module__", "").startswith("jaxnet")
    return (inspect.getdoc(value) or "").partition("Example:\n")[2] if ours else ""


def run(example, names, where):
    """The names after an example, each statement of which has printed what is written below it."""
    test = doctest.DocTestParser().get_doctest(example, names, where, None, 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append, clear_globs=False)
    assert not told, "".join(told)
    return test.globs


@pytest.fixture
def as_users_have_it(tmp_path, monkeypatch):
    """JAX and NumPy as they are by default, in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    with np.printoptions(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("as_users_have_it", "without_figures")
@pytest.mark.parametrize("page", PAGES)
def test_every_example_prints_what_is_written_below_it(page):
    """What a module's docstring sets up, as that of `jaxnet` does for all pages, the others on its page go on from."""
    names = run(example_of(jn), {}, "jaxnet")
    for value in SHOWN[page]:
        if isinstance(value, ModuleType) and value is not jn:
            names = run(example_of(value), names, value.__name__)
    for value in SHOWN[page]:
        if not isinstance(value, ModuleType):
            run(example_of(value), names, str(value))
    run(blocks_of(page), names, page)


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_name_is_on_one_page(module):
    counts = {
        name: sum(getattr(module, name) is one for shown in SHOWN.values() for one in shown) for name in module.__all__
    }
    elsewhere = {name for name in module.__all__ if isinstance(getattr(module, name), ModuleType)}
    assert {name for name, count in counts.items() if count != 1} - elsewhere == set()


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_module_shows_itself_and_the_names_of_it_on_pages(module):
    assert any(module is one for shown in SHOWN.values() for one in shown)


def test_every_function_has_an_example_and_all_else_is_in_one_of_its_page():
    without = []
    for module, name in NAMES:
        value = getattr(module, name)
        if isinstance(value, ModuleType) or example_of(value):
            continue
        page = page_of(value)
        examples = "".join([blocks_of(page), *map(example_of, SHOWN[page])])
        own = inspect.isfunction(value) and value.__module__.startswith("jaxnet")
        if own or not re.search(rf"\b{name}\b", examples):
            without.append(f"{module.__name__}.{name}")
    assert without == []


@pytest.mark.parametrize(
    "name",
    [
        f"{module.__name__.removeprefix('jaxnet.')}.{name}"
        for module in (jn.activations, jn.losses)
        for name in module.__all__
        if isinstance(getattr(module, name), (jn.Layer, jn.Loss))
    ],
)
def test_help_tells_the_equations_of_activations_and_losses(name):
    module, _, name = name.rpartition(".")
    told = pydoc.plain(pydoc.render_doc(getattr(import_module(f"jaxnet.{module}"), name)))
    for field in ("forward", "backward"):
        assert re.search(rf"{field}: .*=", told)
