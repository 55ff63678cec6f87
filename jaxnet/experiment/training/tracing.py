"""A profile of a few training steps."""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxnet.experiment.devices import processes
from jaxnet.experiment.training.batches import Batches
from jaxnet.experiment.training.objective import copied
from jaxnet.training import TrainState

STEPS = 5


def trace_steps(folder: Path, steps: Callable[..., Any], state: TrainState, batches: Batches) -> None:
    """Writes what `jax.profiler` sees of the first steps' second run into a folder; the run itself is not touched.

    Args:
      folder: where to; TensorBoard's profile plugin, xprof, and Perfetto read it.
      steps, state, batches: of the training. The state is copied.
    """
    count = min(STEPS, batches.number)
    (batch,) = batches.pieces(batches.order(0), [(0, count)])
    # The first run compiles.
    jax.block_until_ready(steps(copied(state), *batch))
    again = jax.block_until_ready(copied(state))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with jax.profiler.trace(str(folder)) if processes.is_first() else contextlib.nullcontext():
            jax.block_until_ready(steps(again, *batch))
