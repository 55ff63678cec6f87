"""`jaxnet generate` on the screen, without a network: what it prints, and how it ends."""

import signal
from types import SimpleNamespace

import pytest

from jaxnet.experiment.commands import generate
from jaxnet.experiment.console import errors


@pytest.fixture
def pieces(monkeypatch):
    """What a network writes, which is to be filled; Ctrl-C does what it did before, afterwards."""
    before, to_write = signal.getsignal(signal.SIGINT), []
    monkeypatch.setattr(errors, "_interrupted", False)
    monkeypatch.setattr(generate.newest, "place", lambda run: run)
    monkeypatch.setattr(generate.model_file, "load", lambda run: SimpleNamespace(tokens=()))
    monkeypatch.setattr(generate, "written", lambda *arguments, **options: (piece() for piece in to_write))
    yield to_write
    signal.signal(signal.SIGINT, before)


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def lost_ctrl_c():
    """As where JAX swallows what is raised in a callback."""
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    return "!"


@pytest.mark.parametrize("stop", [ctrl_c, lost_ctrl_c])
def test_ctrl_c_leaves_what_is_printed_and_ends_the_line(stop, pieces, capsys):
    pieces += [lambda: "e", lambda: "nd", stop, lambda: "never"]
    assert errors.exit_status(lambda: generate.generate(generate.GenerateConfig("run", "the "))) == 130
    printed = capsys.readouterr()
    assert printed.out == "the end\n"
    assert printed.err.splitlines()[1:] == ["interrupted: after 3 characters"]


def test_without_ctrl_c_it_ends_with_a_line_too(pieces, capsys):
    pieces.append(lambda: "end")
    assert errors.exit_status(lambda: generate.generate(generate.GenerateConfig("run"))) == 0
    printed = capsys.readouterr()
    assert printed.out == "end\n"
    assert len(printed.err.splitlines()) == 1
