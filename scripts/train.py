"""Trains a network on real data: `python scripts/train.py --help` lists the options."""

import sys

from jaxnet.experiment import errors, options
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.run import run

if __name__ == "__main__":
    sys.exit(errors.exit_status(lambda: run(options.parse(TrainConfig))))
