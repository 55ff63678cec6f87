"""What a run decides and asks for before anything is written."""

import dataclasses
from pathlib import Path

from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure
from jaxnet.experiment.data.examples import Examples
from jaxnet.experiment.data.named import NAMES
from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.options.resumed import restored
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder, standing
from jaxnet.experiment.training import rates
from jaxnet.experiment.training.batches import batches_in
from jaxnet.experiment.training.budget import budget_of
from jaxnet.experiment.training.recipe import Recipe, recipe_of


def require_packages(config: TrainConfig) -> None:
    """Asks for all that the run will need, some of it at its end."""
    with_checkpoints = config.resume is not None or Cadence.read(config.checkpoint_every).every
    shipped = NAMES.keys() & {config.data, config.validation, config.test}
    packages.require(
        *(["sklearn"] if shipped else []),
        *("matplotlib", "filelock", "rich"),
        *(["orbax.checkpoint"] if with_checkpoints else []),
    )
    if config.tensorboard and not packages.is_there("tensorboardX"):
        raise Failure(f"--tensorboard: {packages.missing('tensorboardX')}")
    if config.private_epsilon is not None and not packages.is_there("dp_accounting"):
        raise Failure(f"--private-epsilon: {packages.missing('dp_accounting')}")


def check_folder(config: TrainConfig) -> None:
    """Refuses a folder that may not be written, and a private run whose budget is spent."""
    if config.out is not None and config.resume is None:
        folder.check(config.out, overwrite=config.overwrite)
    if config.resume is not None and config.private_epsilon is not None:
        standing.require_unspent(Path(config.resume))


def with_end_of_decay(config: TrainConfig) -> TrainConfig:
    """Where the learning rate's schedule ends is decided at the start: a run that goes on has that of its start."""
    if config.schedule == "constant" or config.decay_epochs is not None:
        return config
    last: int | None = config.epochs
    if config.resume is not None:
        last = folder.read_options(Path(config.resume), restored).decay_epochs
    return dataclasses.replace(config, decay_epochs=last)


def with_budget(config: TrainConfig, examples: int) -> Recipe:
    """The recipe; that of a private run has a budget, for so many training examples, and noise by that.

    Raises:
      BadInput: when delta is too large for them.
    """
    recipe = recipe_of(config)
    if config.private_epsilon is None:
        return recipe
    epsilon, delta, batch_size = config.private_epsilon, config.private_delta, min(recipe.batch_size, examples)
    multiplier = None
    if config.resume is not None:
        multiplier = folder.read_resolved(Path(config.resume), "noise_multiplier")
    spends = budget_of(epsilon, delta, examples, batch_size, recipe.epochs, multiplier)
    return recipe._replace(budget=spends, noise_multiplier=spends.noise_multiplier)


def require_fit(recipe: Recipe, examples: Examples) -> None:
    """Refuses what of the options does not go with the data."""
    rates.require_updates(recipe, batches_in(examples.parts.train.examples, recipe.batch_size))
    if recipe.label_smoothing and not examples.problem.classes:
        raise BadInput(
            f"--label-smoothing {recipe.label_smoothing:g}: is for classes, and --data {examples.name} has numbers to "
            "learn; leave it out"
        )
