"""Many networks trained at once: every learning rate, start and seed is a member of one ensemble under `vmap`.

A seed decides how the data are split, how the parameters start and the order of the examples, so two arms with the same
seed differ in nothing but what is compared. Each arm's learning rate is the one of the grid with the lowest validation
loss, the mean over the seeds, after the last epoch; what is told is measured on the test part, which had no say in it.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxnet import losses
from jaxnet.experiment.console.errors import interrupted
from jaxnet.experiment.data import named, posing, split
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.training import TrainState, make_epoch, make_step

# What runs for seconds need not be optimised for seconds: level 1 compiles in half the time and runs as fast.
COMPILED = {"xla_backend_optimization_level": 1}

Name = TypeVar("Name")
Trained = TypeVar("Trained")


class Lab(NamedTuple):
    """What every experiment is given.

    Attributes:
      seeds: how many: 0, 1, ...
      out: the folder for its figures.
      show: is told what is being trained.
      rates: the learning rates that every arm is tried at.
      early, late: when arms are compared, in epochs; longer experiments last a multiple of late.
    """

    seeds: int
    out: Path
    show: Callable[[str], None]
    rates: tuple[float, ...] = (0.0025, 0.01, 0.04, 0.16, 0.64, 2.5, 10.0)
    early: int = 3
    late: int = 12


class Part(NamedTuple):
    """Scaled inputs (seeds, m, features) and encoded targets (seeds, m, ...)."""

    x: jax.Array
    y: jax.Array


class Task(NamedTuple):
    """A data set in its three parts, drawn anew by each seed."""

    name: str
    loss: Loss
    features: int
    outputs: int
    train: Part
    validation: Part
    test: Part

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.train.x)


class History(NamedTuple):
    """Before the first epoch and after each: the mean losses in nats per example, and the share of right classes."""

    train_loss: Any
    validation_loss: Any
    test_loss: Any
    test_accuracy: Any


class Runs(NamedTuple):
    """An arm at every rate: (rates,), history (rates, seeds, epochs + 1), params and what was observed likewise."""

    rates: Any
    history: History
    params: Any
    seen: Any

    def tuned(self, epochs: int = -1) -> "Tuned":
        """The runs at the learning rate whose mean validation loss after so many epochs is the lowest."""
        reached = np.asarray(self.history.validation_loss[..., epochs], np.float64).mean(axis=1)
        return self.at(int(np.where(np.isfinite(reached), reached, np.inf).argmin()))

    def at(self, rate: int) -> "Tuned":
        """The runs at the rate of that number."""
        return Tuned(float(self.rates[rate]), *jax.tree.map(lambda leaf: leaf[rate], tuple(self)[1:]))


class Tuned(NamedTuple):
    """An arm at its learning rate: history (seeds, epochs + 1), params and what was observed likewise."""

    rate: float
    history: History
    params: Any
    seen: Any


@cache
def task(name: str, seeds: int) -> Task:
    """A data set of `scripts/train.py`, split and scaled by each seed as it is there."""
    posed, table = posing.pose(named.load(name))
    features = len(table.features)
    splits = [split.split(table, posed, seed)[0].shaped((features,)) for seed in range(seeds)]

    def stacked(part):
        parts = [getattr(parts, part) for parts in splits]
        x = np.stack([part.x.read(slice(None), np.float32) for part in parts])
        return Part(jnp.asarray(x), jnp.asarray(np.stack([posed.encode(part.y, np.float32) for part in parts])))

    loss = getattr(losses, posed.loss)
    return Task(name, loss, features, posed.outputs, *map(stacked, ("train", "validation", "test")))


def keys(seeds: int) -> tuple[jax.Array, jax.Array]:
    """Two for each seed, (seeds,) each: of the start, and of the order of the examples."""
    of_start, of_order = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)), out_axes=1)(jnp.arange(seeds))
    return of_start, of_order


def start(net: Layer, seeds: int) -> Any:
    """The network's own initial parameters for each seed, (seeds, ...)."""
    of_start, _ = keys(seeds)
    return jax.vmap(net.init)(of_start)


def nothing(params: Any, x: jax.Array) -> tuple[()]:
    """What is observed by default."""
    return ()


def fit(
    lab: Lab,
    what: str,
    net: Layer,
    on: Task,
    starts: dict[str, Any],
    *,
    epochs: int,
    batch_size: int | None = 32,
    observe: Callable[[Any, jax.Array], Any] = nothing,
) -> dict[str, Runs]:
    """Trains every start, at every rate, for every seed, by plain stochastic gradient descent: one compiled program.

    Args:
      lab: the experiment's.
      what: named on the screen.
      net, on: what is trained, on what.
      starts: initial parameters (seeds, ...) by name.
      epochs, batch_size: None for the lesson's full batch, where an epoch is one iteration.
      observe: `(params, x) -> pytree`, of the training part before the first epoch and after each.
    """
    if interrupted():
        raise KeyboardInterrupt
    lab.show(f"{what} on {on.name}")

    def run(rate, params, parts, key):
        optimizer = optax.sgd(rate)
        full_batch = batch_size is None
        epoch = make_step(net, on.loss, optimizer) if full_batch else make_epoch(net, on.loss, optimizer, batch_size)

        def trained(state, _):
            state, _ = epoch(state, *parts[0])
            return state, (_measure(net, on.loss, state.params, parts), observe(state.params, parts[0].x))

        at_first = _measure(net, on.loss, params, parts), observe(params, parts[0].x)
        state, after = lax.scan(trained, TrainState.create(params, optimizer, key), length=epochs)
        history, seen = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), at_first, after)
        return history, state.params, seen

    by_seed = jax.vmap(run, (None, 0, 0, 0))
    by_start = jax.vmap(by_seed, (None, 0, None, None))
    by_rate = jax.jit(jax.vmap(by_start, (0, None, None, None)), compiler_options=COMPILED)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts.values())
    _, of_order = keys(on.seeds)
    runs = by_rate(jnp.array(lab.rates), stacked, (on.train, on.validation, on.test), of_order)
    runs = jax.device_get(runs)
    # float64, so that 0.04 is told as 0.04.
    rates = np.array(lab.rates)
    return {name: Runs(rates, *jax.tree.map(lambda leaf, k=k: leaf[:, k], runs)) for k, name in enumerate(starts)}


def together(fits: Mapping[Name, Callable[[], Trained]]) -> dict[Name, Trained]:
    """What each of them gives, in their order; as many at a time as there are processors.

    Compiled or run, a program has all of them work for a part of its time only.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        begun = {name: threads.submit(fit) for name, fit in fits.items()}
        return {name: one.result() for name, one in begun.items()}


def _measure(net, loss, params, parts):
    # One pass over all three parts compiles in less time than three.
    ends = np.cumsum([len(part.x) for part in parts])
    outputs = jnp.split(net.apply(params, jnp.concatenate([part.x for part in parts])), ends[:-1])
    train, validation, test = (loss.forward(z, part.y).mean() for z, part in zip(outputs, parts, strict=True))
    return History(train, validation, test, accuracy(outputs[-1], parts[-1].y))


def accuracy(z: jax.Array, y: jax.Array) -> jax.Array:
    """The share of examples whose class is the likeliest: by the sign of one output, or the largest of several."""
    right = (z > 0) == (y > 0.5) if z.shape[-1] == 1 else z.argmax(axis=-1) == y
    return right.mean()
