"""Draws what scripts/train.py trained: `python scripts/draw.py RUN`, or with `--html FILE` one example at play."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.draw import main

    return main


if __name__ == "__main__":
    start(load)
