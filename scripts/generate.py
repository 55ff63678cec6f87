"""Writes text with a network that scripts/train.py trained on text: `python scripts/generate.py RUN`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.generate import main

    return main


if __name__ == "__main__":
    start(load)
