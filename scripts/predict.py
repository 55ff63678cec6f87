"""Predicts with a network that scripts/train.py trained: `python scripts/predict.py RUN --data FILE`."""

import sys

from jaxnet.experiment import errors, options
from jaxnet.experiment.predict import PredictConfig, predict

if __name__ == "__main__":
    sys.exit(errors.exit_status(lambda: predict(options.parse(PredictConfig))))
