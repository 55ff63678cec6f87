"""Takes a network that scripts/train.py trained elsewhere: `python scripts/export.py RUN --to safetensors`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.export import main

    return main


if __name__ == "__main__":
    start(load)
