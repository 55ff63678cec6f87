"""Checks every step of the backward pass: `python scripts/check_gradients.py`; exit status 1 if one is wrong."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.check import main

    return main


if __name__ == "__main__":
    start(load)
