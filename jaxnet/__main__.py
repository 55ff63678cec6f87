"""The programs of `scripts/`, for who has installed the package: `jaxnet train`, or `python -m jaxnet train`."""

import importlib
import sys

from jaxnet import __version__
from jaxnet.experiment.console.errors import BadInput, did_you_mean, exit_status

COMMANDS = {
    "train": "train a network on real data",
    "predict": "predict with a trained network",
    "generate": "write text with a trained network",
    "export": "take a trained network elsewhere",
    "draw": "draw a trained network, or play a signal through it",
    "compare": "compare runs in a table and a figure",
    "runs": "list runs with their scores",
    "check": "check every step of the backward pass",
}


def main() -> None:
    """Runs the command that the first argument names, and exits with its status."""
    sys.exit(exit_status(_run))


def _run():
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"jaxnet {__version__}")
    elif name in COMMANDS:
        # Where the command's own help takes the program's name from.
        sys.argv = [f"jaxnet {name}", *arguments]
        importlib.import_module(f"jaxnet.experiment.commands.{name}").main()
    else:
        raise BadInput(f"{name}: expected one of {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}")


def _help():
    commands = (f"  {name:10}{what}" for name, what in COMMANDS.items())
    return "\n".join(
        ["usage: jaxnet COMMAND ...", "", *commands, "", "jaxnet COMMAND --help lists a command's options."]
    )


if __name__ == "__main__":
    main()
