"""Compares runs of scripts/train.py: `python scripts/compare.py RUN...`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.compare import main

    return main


if __name__ == "__main__":
    start(load)
