"""Checks every step of the backward pass: `python scripts/check_gradients.py`; exit status 1 if one is wrong."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.check import CheckConfig, check_gradients
    from jaxnet.experiment.options.parse import parse

    return lambda: check_gradients(parse(CheckConfig))


if __name__ == "__main__":
    start(load)
