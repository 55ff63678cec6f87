"""Predicts with a network that scripts/train.py trained: `python scripts/predict.py RUN --data FILE`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.commands.predict import PredictConfig, predict
    from jaxnet.experiment.options.parse import parse

    return lambda: predict(parse(PredictConfig))


if __name__ == "__main__":
    start(load)
