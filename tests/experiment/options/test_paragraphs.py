"""The help of every command, 80 columns wide: text that flows, and is broken at the terminal's end alone."""

import dataclasses
import re
import sys

import pytest

from jaxnet.experiment.commands.check import CheckConfig
from jaxnet.experiment.commands.compare import CompareConfig
from jaxnet.experiment.commands.export import ExportConfig
from jaxnet.experiment.commands.generate import GenerateConfig
from jaxnet.experiment.commands.predict import PredictConfig
from jaxnet.experiment.commands.runs import RunsConfig
from jaxnet.experiment.options import paragraphs
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.train_config import TrainConfig

COLUMNS = 80
EVERY = (TrainConfig, PredictConfig, GenerateConfig, ExportConfig, CompareConfig, RunsConfig, CheckConfig)


@dataclasses.dataclass(frozen=True)
class Few:
    """A program of few options, told in a docstring that the source breaks somewhere, and the terminal at its end; it
    is longer than that.
    """  # noqa: D205 one paragraph, as options have them

    first: int
    """Of a docstring that the source breaks somewhere, the terminal shows as many words in a line as
    there is room for."""
    second: str = "b"
    """A line that begins with a dash, as
    --first does, goes on as well, and so does one that begins with a number, as
    2 does. No line is left half empty."""


HELP = """\
A program of few options, told in a docstring that the source breaks somewhere,
  and the terminal at its end; it is longer than that.
-h, --help    show this help message and exit
--first INT   Of a docstring that the source breaks somewhere, the terminal
              shows as many words in a line as there is room for. (required)
--second STR  A line that begins with a dash, as --first does, goes on as
              well, and so does one that begins with a number, as 2 does. No
              line is left half empty. (default: b)
"""


def help_of(config, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr(sys, "argv", ["jaxnet train"])
    with pytest.raises(SystemExit) as end:
        parse(config, ["--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_docstrings_flow(monkeypatch, capsys):
    usage, _, first, second, *rest = help_of(Few, monkeypatch, capsys).splitlines()
    assert usage == "usage: jaxnet train [-h] --first INT [--second STR]"
    # Without the frame around the options.
    options = [line[2:].rstrip(" │") for line in rest if "options" not in line and line.strip("│─╭╮╰╯- ")]
    assert [first, second, *options] == HELP.splitlines()


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.__name__)
def test_no_line_of_a_command_s_help_is_wider_than_the_terminal_and_every_option_is_told_of(
    config, monkeypatch, capsys
):
    told = help_of(config, monkeypatch, capsys)
    assert max(map(len, told.splitlines())) <= COLUMNS
    words = re.sub(r"[│╭╮╰╯─\s]", "", told)
    for field in dataclasses.fields(config):
        assert re.sub(r"\s", "", paragraphs.of_option(config, field.name)) in words


def test_an_option_that_is_given_and_one_that_is_left_out_are_read():
    assert parse(Few, ["--first", "3"]) == Few(3, "b")
    assert parse(Few, ["--second", "c"], default=Few(1, "d")) == Few(1, "c")
