"""Predicts with a network that scripts/train.py trained: `python scripts/predict.py RUN --data FILE`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.predict import main

    return main


if __name__ == "__main__":
    start(load)
