"""The types of a user's program, as mypy and pyright find them by way of py.typed."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxnet as jn

ROOT = Path(__file__).parent.parent
# Each wrong line says which kind of mistake mypy is to find in it, and then pyright; in the others there is none.
PROGRAM = """
from typing import assert_type

import jaxnet as jn

net = jn.chain(jn.dense(3, 4), jn.leaky_relu(0.1), jn.dense(4, 1, bias=False))
assert_type(net, jn.Layer)
assert_type(jn.losses.half_squared_error, jn.Loss)
gradient = jn.value_and_grad(net, jn.losses.half_squared_error, read=jn.per_example.clipped(1.0))


def described(layer: jn.Layer) -> str:
    return layer.name


described(net)
jn.dense("3", 4)  # arg-type reportArgumentType
jn.chain(jn.tanh, 1.0)  # arg-type reportArgumentType
jn.leaky_relu(slop=0.1)  # call-arg reportCallIssue
jn.value_and_grad(jn.losses.half_squared_error, net)  # arg-type reportArgumentType
described(1)  # arg-type reportArgumentType
jn.dens(3, 4)  # attr-defined reportAttributeAccessIssue
classifier = jn.estimator.Classifier
"""
# A user's own settings. What jaxnet is made of is left out: to read it takes longer than the rest.
SETTINGS = """
[mypy]
strict = True
[mypy-jax.*,jaxlib.*,optax.*,chex.*,numpy.*,jaxtyping.*,beartype.*,sklearn.*,scipy.*,matplotlib.*,orbax.*]
follow_imports = skip
"""


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """The user's program, and where an installed package lies: without py.typed, mypy would know nothing of it."""
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "jaxnet").symlink_to(Path(jn.__file__).parent)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mistakes(checker):
    """(line, kind) of each mistake that the checker, the first or the second, is to find."""
    lines = enumerate(PROGRAM.splitlines(), 1)
    return sorted((k, line.split("# ")[1].split()[checker]) for k, line in lines if "  # " in line)


def test_mypy_checks_a_users_program_against_the_annotations(users_folder, monkeypatch):
    from mypy import api

    # mypy leaves the first place on the path out: a script's own.
    monkeypatch.setattr(sys, "path", [sys.path[0], str(users_folder / "installed"), *sys.path[1:]])
    (users_folder / "mypy.ini").write_text(SETTINGS)
    told, errors, _ = api.run(["--config-file", "mypy.ini", "--cache-dir", "cache", "program.py"])
    assert errors == ""
    found = re.findall(r"^program\.py:(\d+): error: .* \[([\w-]+)\]$", told, re.MULTILINE)
    assert sorted({(int(line), kind) for line, kind in found}) == mistakes(0), told


def test_pyright_checks_a_users_program_against_the_annotations(users_folder):
    # 280 megabytes that one test needs: an extra of those who develop, and of the gate, which asks this test again.
    pytest.importorskip("basedpyright")
    settings = {"typeCheckingMode": "standard", "extraPaths": ["installed"]}
    (users_folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "program.py"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {
        (of["range"]["start"]["line"] + 1, of["rule"])
        for of in json.loads(told)["generalDiagnostics"]
        if of["severity"] == "error"
    }
    assert sorted(found) == mistakes(1), told


def test_the_marker_that_there_are_types_is_part_of_the_wheel():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in packaged["jaxnet"]
    assert (ROOT / "jaxnet" / "py.typed").exists()
