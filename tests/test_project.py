"""The files around the code: what contributors, citations and the hosted workflow are told is so."""

import re
from pathlib import Path

import pytest
import yaml

import jaxnet as jn

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_the_citation_is_of_this_version_and_licence():
    citation = read("CITATION.cff")
    assert citation["version"] == jn.__version__
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'license = "{citation["license"]}"' in pyproject
    for word in citation["keywords"]:
        assert f'"{word}"' in pyproject


def test_the_hosted_workflow_calls_the_gate_and_nothing_else():
    (job,) = read(".github/workflows/gate.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    (versions,) = (step["with"]["python-version"] for step in job["steps"] if "with" in step)
    gate = re.search(r"^for python in (.*); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)[1]
    assert {f"python{version}" for version in versions.split()} == set(gate.split())


def test_each_commit_is_asked_by_the_same_ruff_as_the_gate():
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff-check", "ruff-format"]
    at_least = re.search(r'"ruff>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert re.fullmatch(rf"v{re.escape(at_least)}\.\d+", repo["rev"])


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_an_issue_template_has_what_a_form_needs(path):
    form = read(path)
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"]
    assert form["description"]
    parts = form["body"]
    assert len({part["id"] for part in parts}) == len(parts)
    assert all(part["type"] in ("textarea", "input") and part["attributes"]["label"] for part in parts)


def test_every_file_that_contributing_and_security_name_is_there():
    for text in (CONTRIBUTING, (ROOT / "SECURITY.md").read_text()):
        named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|toml|cff))`", text)
        named += re.findall(r"\]\(([^)#]+)", text)
        assert len(named) > 1
        for file in named:
            # What a contributor is to make, and what a build makes.
            if "my_layer" not in file and file != "jaxnet/":
                assert (ROOT / file).exists(), file


def test_what_a_release_under_another_name_has_to_change_is_there_to_be_changed():
    assert 'name = "jaxnet"' in (ROOT / "pyproject.toml").read_text()
    assert "jaxnet[train]" in (ROOT / "pyproject.toml").read_text()
    assert "jaxnet-*.whl" in (ROOT / ".ci" / "run").read_text()
    assert "`jaxnet` is taken on PyPI" in CONTRIBUTING
