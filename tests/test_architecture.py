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
CORE = sorted(path for path in PACKAGE.rglob("*.py") if "experiment" not in path.relative_to(PACKAGE).parts)
AUTODIFF = {"grad", "vjp", "value_and_grad", "jacrev", "jacfwd", "hessian", "linearize", "linear_transpose"}
PUBLIC = [jn, *(value for name in jn.__all__ if isinstance(value := getattr(jn, name), ModuleType))]
OPTIONAL = {"tyro", "rich", "sklearn", "matplotlib", "orbax", "tensorboardX", "flatbuffers", "scipy", "pandas"}


# Of jaxnet.experiment, each of which imports those to its left.
ROOMS = ("console", "options", "devices", "data", "training", "storage", "figures", "commands")


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
    assert path.parent.name == "training" or path.name == "optimizers.py" or "optax" not in roots
    assert not any(name.startswith("jaxnet.experiment") for name in imports(path))


def test_layers_never_import_each_other():
    for path in (PACKAGE / "layers").glob("*.py"):
        if path.name != "__init__.py":
            assert not any(name.startswith("jaxnet.layers") for name in imports(path)), path


@pytest.mark.parametrize("room", ["console", "options", "data"])
def test_a_room_imports_only_rooms_to_its_left(room):
    reached = {
        name.split(".")[2]
        for path in (PACKAGE / "experiment" / room).glob("*.py")
        for name in imports(path)
        if name.startswith("jaxnet.experiment.")
    }
    assert reached <= set(ROOMS[: ROOMS.index(room) + 1])


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


def test_what_the_readme_uses_of_a_public_module_is_public():
    readme = (PACKAGE.parent / "README.md").read_text()
    uses = {use for use in re.findall(r"\bjn\.(\w+)\.(\w+)", readme) if getattr(jn, use[0]) in PUBLIC}
    assert len(uses) > 10
    for module, name in uses:
        assert name in dir(getattr(jn, module)), f"{module}.{name}"


def test_all_promised_names_are_there():
    for name in jn.__all__:
        assert hasattr(jn, name), name
    for name in ("sigmoid", "tanh", "relu", "leaky_relu", "identity"):
        assert hasattr(jn.activations, name), name
