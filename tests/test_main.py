"""The command `jaxnet`, and `python -m jaxnet`."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxnet as jn
from jaxnet import __main__ as program
from jaxnet.experiment.console import errors

ROOT = Path(__file__).parents[1]

HELP = """\
usage: jaxnet COMMAND ...

  train     train a network on real data
  predict   predict with a trained network
  generate  write text with a trained network
  export    take a trained network elsewhere
  draw      draw a trained network, or play a signal through it
  compare   compare runs in a table and a figure
  runs      list runs with their scores
  check     check every step of the backward pass

jaxnet COMMAND --help lists a command's options.
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the program with arguments; returns its status and what it wrote."""
    monkeypatch.setattr("signal.signal", lambda *arguments: None)

    def to_the_end(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxnet", *arguments])
        with pytest.raises(SystemExit) as end:
            program.main()
        return end.value.code, *capsys.readouterr()

    return to_the_end


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_help_lists_the_commands(arguments, run):
    assert run(*arguments) == (0, HELP, "")


def test_the_version_is_told(run):
    assert run("--version") == (0, f"jaxnet {jn.__version__}\n", "")


def test_a_typo_in_a_command_is_one_line(run):
    names = "train, predict, generate, export, draw, compare, runs, check"
    expected = f"error: trian: expected one of {names}; did you mean train?\n"
    assert run("trian") == (errors.BadInput.status, "", expected)


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_has_its_help_under_its_own_name(command, run):
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: jaxnet {command} [-h]")


def test_a_command_does_what_its_script_does(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("predict", "nowhere", "--data", "iris")
    assert (status, out) == (errors.BadInput.status, "")
    status, _, err = run("compare", "nowhere")
    assert (status, err) == (
        errors.BadInput.status,
        "error: nowhere: no such folder; expected the folder of a run\n",
    )


def test_python_runs_the_package():
    command = [sys.executable, "-m", "jaxnet", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"jaxnet {jn.__version__}\n"


# As pip writes the command; and what presses Ctrl-C in the place of JAX.
COMMAND = """
import sys
from jaxnet.__main__ import main
sys.exit(main())
"""
PRESSED = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
"""
# A shell that runs the tests in its background has them, and their children, ignore Ctrl-C.
HEED = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"


def ctrl_c_instead_of_jax(where, *arguments):
    (where / "jax").mkdir()
    (where / "jax" / "__init__.py").write_text(PRESSED)
    (where / "jaxnet").write_text(COMMAND)
    line = [sys.executable, "-c", HEED, sys.executable, *arguments]
    return subprocess.run(line, cwd=where, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("jaxnet", "train"), ("-X", "utf8", "-m", "jaxnet", "train", "--epochs", "3")])
def test_ctrl_c_while_jax_is_imported_is_one_line_and_a_status(arguments, tmp_path):
    done = ctrl_c_instead_of_jax(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted: nothing was written\n")


def test_in_another_program_that_imports_jaxnet_ctrl_c_is_what_it_was(tmp_path):
    done = ctrl_c_instead_of_jax(tmp_path, "-c", "import jaxnet", "jaxnet")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.endswith("\nKeyboardInterrupt\n")


def test_the_command_is_installed_under_the_package_s_name():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"jaxnet": "jaxnet.__main__:main"}
