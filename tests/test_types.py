"""The types of a user's program, as mypy finds them by way of py.typed."""

import re
import sys
import tomllib
from pathlib import Path

import jaxnet as jn

ROOT = Path(__file__).parent.parent
# Each wrong line says which kind of mistake mypy is to find in it; in the others there is none.
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
jn.dense("3", 4)  # arg-type
jn.chain(jn.tanh, 1.0)  # arg-type
jn.leaky_relu(slop=0.1)  # call-arg
jn.value_and_grad(jn.losses.half_squared_error, net)  # arg-type
described(1)  # arg-type
jn.dens(3, 4)  # attr-defined
classifier = jn.estimator.Classifier
"""
# A user's own settings. What jaxnet is made of is left out: to read it takes longer than the rest.
SETTINGS = """
[mypy]
strict = True
[mypy-jax.*,jaxlib.*,optax.*,chex.*,numpy.*,jaxtyping.*,beartype.*,sklearn.*,scipy.*,matplotlib.*,orbax.*]
follow_imports = skip
"""


def test_a_users_program_is_checked_against_the_annotations(tmp_path, monkeypatch):
    from mypy import api

    monkeypatch.chdir(tmp_path)
    # Where an installed package lies: without py.typed in it, mypy would know nothing of it.
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "jaxnet").symlink_to(Path(jn.__file__).parent)
    # mypy leaves the first place on the path out: a script's own.
    monkeypatch.setattr(sys, "path", [sys.path[0], str(installed), *sys.path[1:]])
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    (tmp_path / "program.py").write_text(PROGRAM)
    told, errors, _ = api.run(["--config-file", "mypy.ini", "--cache-dir", "cache", "program.py"])
    assert errors == ""
    found = re.findall(r"^program\.py:(\d+): error: .* \[([\w-]+)\]$", told, re.MULTILINE)
    lines = PROGRAM.splitlines()
    expected = [(str(k), line.split("# ")[1]) for k, line in enumerate(lines, 1) if "  # " in line]
    assert sorted(set(found)) == sorted(expected), told


def test_the_marker_that_there_are_types_is_part_of_the_wheel():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in packaged["jaxnet"]
    assert (ROOT / "jaxnet" / "py.typed").exists()
