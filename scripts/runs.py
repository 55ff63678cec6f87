"""Lists runs of scripts/train.py with their scores: `python scripts/runs.py [FOLDER]`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.runs import main

    return main


if __name__ == "__main__":
    start(load)
