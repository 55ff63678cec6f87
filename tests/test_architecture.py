"""The rooms and the direction of dependencies, as the design has them."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jaxnet as jn

PACKAGE = Path(jn.__file__).parent
# What leads from the core into the annex, when it is called, and the command.
DOORS = {PACKAGE / "files.py", PACKAGE / "estimator.py", PACKAGE / "__main__.py"}
# All else that `import jaxnet` loads.
CORE = sorted({*PACKAGE.rglob("*.py")} - {*(PACKAGE / "experiment").rglob("*.py")} - DOORS)
AUTODIFF = {"grad", "vjp", "value_and_grad", "jacrev", "jacfwd", "hessian", "linearize", "linear_transpose"}
PUBLIC = [jn, *(value for name in jn.__all__ if isinstance(value := getattr(jn, name), ModuleType))]
EXPERIMENT, SCRIPTS = PACKAGE / "experiment", PACKAGE.parent / "scripts"
# A room imports from itself and from those before it: the way that a run takes through them.
ROOMS = (
    "console",
    "networks",
    "options",
    "devices",
    "data",
    "training",
    "storage",
    "figures",
    "estimators",
    "commands",
)
IN_ROOMS = sorted(path for room in ROOMS for path in (EXPERIMENT / room).rglob("*.py"))
# Lines of a function that fit a screen, without its docstring and empty ones.
SCREEN = 50
OPTIONAL = {
    "tyro",
    "rich",
    "sklearn",
    "matplotlib",
    "orbax",
    "tensorboardX",
    "flatbuffers",
    "scipy",
    "pandas",
    "dp_accounting",
    "tokenizers",
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_oracle_differentiates_automatically(path):
    names = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jax"
    }
    imported = {name.removeprefix("jax.") for name in imports(path) if name.startswith("jax.")}
    assert path.parent.name == "testing" or not AUTODIFF & (names | imported)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_imports_nothing_optional_and_only_training_and_optimizers_know_optax(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not OPTIONAL & roots
    assert path.parent.name in ("training", "optimizers") or "optax" not in roots
    assert not any(name.startswith("jaxnet.experiment") for name in imports(path))


def test_layers_never_import_each_other():
    for path in (PACKAGE / "layers").glob("*.py"):
        if path.name != "__init__.py":
            assert not any(name.startswith("jaxnet.layers") for name in imports(path)), path


def test_only_what_is_made_of_layers_knows_them_by_name():
    made = {PACKAGE / "__init__.py", PACKAGE / "multi_head_attention.py", *(PACKAGE / "networks").glob("*.py")}
    for path in {*CORE} - made - {*(PACKAGE / "layers").rglob("*.py")}:
        assert not any(name.startswith("jaxnet.layers") for name in imports(path)), path


def room_of(path):
    return path.relative_to(EXPERIMENT).parts[0]


def in_experiment(path):
    return str(path.relative_to(EXPERIMENT))


def test_every_room_is_one_of_those_on_the_way():
    there = {path.name for path in EXPERIMENT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert there <= set(ROOMS)


@pytest.mark.parametrize("path", IN_ROOMS, ids=in_experiment)
def test_a_room_imports_from_itself_and_those_before_it(path):
    before = ROOMS[: ROOMS.index(room_of(path)) + 1]
    entered = {name.split(".")[2] for name in imports(path) if name.startswith("jaxnet.experiment.")}
    assert entered <= set(before)


@pytest.mark.parametrize("path", IN_ROOMS, ids=in_experiment)
def test_only_options_and_what_is_called_from_outside_know_all_options(path):
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    known = names | {name.split(".")[-1] for name in imports(path)}
    assert room_of(path) in ("options", "estimators", "commands") or "TrainConfig" not in known


# What takes longer to import than a small network to train, and who asks for it, when it is called.
SLOW = {"sklearn": {"data/shipped.py", "data/named.py", "estimators"}, "scipy": {"training/interval.py"}}


def test_a_run_on_digits_or_a_file_meets_no_import_of_scikit_learn_or_scipy():
    met = {package: set() for package in SLOW}
    for path in IN_ROOMS:
        for package in SLOW.keys() & {name.split(".")[0] for name in imports(path)}:
            met[package].add("estimators" if room_of(path) == "estimators" else in_experiment(path))
    assert met == SLOW


def lines_of_code(function, lines):
    """Of its body, what is neither docstring nor empty."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return sum(bool(line.strip()) for line in lines[body[0].lineno - 1 : body[-1].end_lineno]) if body else 0


def test_a_function_fits_a_screen():
    for path in (*PACKAGE.rglob("*.py"), *SCRIPTS.rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert lines_of_code(node, text.splitlines()) <= SCREEN, f"{path}: {node.name}"


def test_importing_jaxnet_loads_no_optional_package():
    program = (
        "import sys, jax, optax, chex; before = set(sys.modules); import jaxnet; new = set(sys.modules) - before; "
        f"print(sorted({OPTIONAL!r} & {{name.split('.')[0] for name in new}}))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_a_public_module_shows_what_is_public_and_nothing_else(module):
    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_every_public_function_is_documented(module):
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if getattr(value, "__module__", "").startswith("jaxnet") and not isinstance(value, (jn.Layer, jn.Loss)):
            assert value.__doc__, f"{module.__name__}.{name}"


def test_what_the_readme_and_the_pages_use_of_a_public_module_is_public():
    root = PACKAGE.parent
    text = "".join(page.read_text() for page in [root / "README.md", *(root / "docs").rglob("*.md")])
    uses = {use for use in re.findall(r"\bjn\.(\w+)\.(\w+)", text) if getattr(jn, use[0], None) in PUBLIC}
    assert len(uses) > 20
    for module, name in uses:
        assert name in dir(getattr(jn, module)), f"{module}.{name}"


def test_all_promised_names_are_there():
    for name in jn.__all__:
        assert hasattr(jn, name), name
    for name in ("sigmoid", "tanh", "relu", "leaky_relu", "identity"):
        assert hasattr(jn.activations, name), name
