"""Packages that are not there, and which extras bring them."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import exit_status

ROOT = Path(__file__).parents[3]


def test_the_extras_are_those_that_can_be_installed():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, names in packages.EXTRAS.items():
        brought = [re.split(r"[>=\[]", line)[0] for line in declared[extra]]
        assert [name for name in brought if name != "jaxnet"] == list(names.values())


@pytest.mark.parametrize(
    ("name", "extra"),
    [(name, extra) for extra, names in packages.EXTRAS.items() for name in names]
    + [("orbax.checkpoint.handlers", "train")],
)
def test_an_import_that_fails_names_the_extra(name, extra, monkeypatch, capsys):
    def program():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with monkeypatch.context() as patched:
        patched.setattr("signal.signal", lambda *arguments: None)
        assert exit_status(program) == 1
    package = name.partition(".")[0]
    expected = f"error: the package {package} is not installed; pip install -e '.[{extra}]' brings it\n"
    assert capsys.readouterr().err == expected


def test_outside_a_clone_the_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(packages, "in_a_clone", lambda: False)
    monkeypatch.setattr(packages, "is_there", lambda name: name not in ("sklearn", "orbax"))
    assert packages.missing("orbax.checkpoint") == (
        "the package orbax is not installed; pip install scikit-learn orbax-checkpoint brings it, and what else is "
        "missing"
    )
    assert packages.missing("tensorboardX") == (
        "the package tensorboardX is not installed; pip install tensorboardX brings it"
    )


def test_a_clone_is_known_by_its_pyproject(monkeypatch, tmp_path):
    assert packages.in_a_clone()
    monkeypatch.setattr("jaxnet.__file__", str(tmp_path / "site-packages" / "jaxnet" / "__init__.py"))
    assert not packages.in_a_clone()


def test_other_packages_are_named_too():
    assert packages.missing("nowhere.to.be") == "the package nowhere is not installed; pip install nowhere brings it"


def test_what_is_there_is_found_and_what_is_hidden_is_not(monkeypatch):
    packages.require("json", "xml.etree")
    for name in ("no_such_package", "no_such_package.part", "json.no_such_part"):
        assert not packages.is_there(name)
    monkeypatch.setitem(sys.modules, "json", None)
    with pytest.raises(ModuleNotFoundError, match=r"^the package json is not installed; pip install json brings it$"):
        packages.require("math", "json")
