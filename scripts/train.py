"""Trains a network on real data: `python scripts/train.py --help` lists the options."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.train import main

    return main


if __name__ == "__main__":
    start(load)
