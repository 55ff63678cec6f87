"""Programs that fork children, which share what they import, so that many may be started and killed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

FORKED = """
import os, random, signal, sys, time, warnings
warnings.simplefilter("ignore")
from jaxnet.experiment.storage import durable
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.commands import ending, train as module
import orbax.checkpoint, sklearn.datasets, sklearn.model_selection, matplotlib.pyplot, filelock

sys.stdout = open(os.devnull, "w")

def fork(child):
    number = os.fork()
    if number == 0:
        try:
            child()
        finally:
            os._exit(0)
    return number
"""


def forked(program, *arguments):
    """Runs a program that forks children which share its imports, so that many may be started and killed."""
    command = [sys.executable, "-c", FORKED + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
