"""One iteration is forward, backward, update; an epoch is a compiled scan over iterations."""

from jaxnet.training.epoch import batch_weights, epoch_order, make_epoch
from jaxnet.training.poisson import poisson_batches
from jaxnet.training.state import TrainState
from jaxnet.training.step import make_step
from jaxnet.training.steps import make_steps

__all__ = ["TrainState", "batch_weights", "epoch_order", "make_epoch", "make_step", "make_steps", "poisson_batches"]
