"""README.zh.md: its programs and commands do what they say, and its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

import jaxnet as jn
from jaxnet.experiment.commands import train
from jaxnet.experiment.commands.check import CheckConfig, check_gradients
from jaxnet.experiment.options.parse import parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.zh.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
PRINTED = [text for language, text in BLOCKS if not language]
NUMBER = r"\d+(?:\.\d+)?(?:e-\d+)?"


def options_of(script):
    """Of the command that runs it, and what is printed below."""
    (position,) = (k for k, text in enumerate(PRINTED) if text.startswith(f"python scripts/{script}.py"))
    return shlex.split(PRINTED[position])[2:], PRINTED[position + 1]


@pytest.mark.usefixtures("optax_promotion")
def test_the_programs_print_what_is_written_below_them(capsys):
    names: dict = {}
    exec(PROGRAMS[0], names)
    printed = capsys.readouterr().out
    (written,) = (text for text in PRINTED if text.startswith("gradient norms"))
    assert re.sub(NUMBER, "", printed) == re.sub(NUMBER, "", written)
    # 500 updates carry the rounding of another machine along.
    assert list(map(float, re.findall(NUMBER, printed))) == pytest.approx(
        list(map(float, re.findall(NUMBER, written))), abs=0.02
    )
    exec(PROGRAMS[1], names)
    assert isinstance(names["images"], jn.Layer)
    assert callable(names["step"])


@pytest.mark.usefixtures("optax_promotion", "without_figures")
def test_training_tells_what_is_written_below_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options, written = options_of("train")
    train.main([*options, "--no-compilation-cache"])
    told = capsys.readouterr().out.splitlines()
    found, result = written.split("...\n")
    assert set(found.splitlines()) <= set(told)
    (accuracy,) = (re.search(r"test accuracy (\S+)%", line)[1] for line in told if line.startswith("result"))
    # One of 30 examples either way.
    assert float(accuracy) == pytest.approx(float(re.search(r"test accuracy (\S+)%", result)[1]), abs=3.4)


def test_checking_prints_the_table_below_the_command_but_for_rounding(capsys):
    options, written = options_of("check_gradients")
    check_gradients(parse(CheckConfig, options))
    errors = r"\d\.\de[+-]\d\d"
    assert re.sub(errors, "", capsys.readouterr().out) == re.sub(errors, "", written)


def test_every_link_of_the_chinese_readme_is_there_and_it_is_short():
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert (ROOT / link).exists(), link
    assert README.count("\n") <= 150


def test_each_readme_leads_to_the_other():
    assert "(README.md)" in README
    assert "(README.zh.md)" in (ROOT / "README.md").read_text()
