"""Predicts with a network that scripts/train.py trained: `python scripts/predict.py RUN --data FILE`."""

from _start import start


def load():
    """The program, once its packages are there."""
    from jaxnet.experiment.options import parse
    from jaxnet.experiment.predict import PredictConfig, predict

    return lambda: predict(parse(PredictConfig))


if __name__ == "__main__":
    start(load)
