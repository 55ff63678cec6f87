"""Compares runs of scripts/train.py: `python scripts/compare.py RUN...`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.compare import CompareConfig, compare
    from jaxnet.experiment.options.parse import parse

    return lambda: compare(parse(CompareConfig))


if __name__ == "__main__":
    start(load)
