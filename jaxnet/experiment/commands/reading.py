"""What a run learns from, as its options say."""

import os
from pathlib import Path

from jaxnet.experiment.commands import text_runs
from jaxnet.experiment.console.errors import BadInput, option
from jaxnet.experiment.data import grouped, matching, named, texts
from jaxnet.experiment.data.columns import CATEGORY
from jaxnet.experiment.data.delimited import Selection
from jaxnet.experiment.data.examples import Examples, prepare
from jaxnet.experiment.data.image_form import asked
from jaxnet.experiment.data.split import FRACTIONS, Fractions
from jaxnet.experiment.devices import processes
from jaxnet.experiment.networks.architecture import ARCHITECTURES, architecture_of
from jaxnet.experiment.options.train_config import TrainConfig


def prepared(config: TrainConfig) -> Examples:
    """The parts and the problem.

    Raises:
      BadInput: when they cannot be read, or learnt with these options.
    """
    if architecture_of(config.model).ids:
        return processes.together(lambda: text_runs.examples_of(config))
    return prepare(
        processes.together(lambda: _load(config)),
        config.seed,
        fractions=fractions(config),
        balanced=config.class_weights == "balanced",
        scale=config.scale,
        loss=config.loss,
        output_activation=config.output_activation,
    )


def fractions(config: TrainConfig) -> Fractions:
    """The shares that are drawn of the data for the parts; None of a part that is a file of its own."""
    asked = Fractions(config.validation_fraction, config.test_fraction)
    shares = {name: getattr(FRACTIONS, name) if share is None else share for name, share in asked._asdict().items()}
    return Fractions(**{name: share if getattr(config, name) is None else None for name, share in shares.items()})


def _load(config):
    form = asked(config.image_size)
    if texts.is_one(config.data) and not named.holds_images(Path(config.data)):
        of_text = " or ".join(name for name, one in ARCHITECTURES.items() if one.ids)
        raise BadInput(f"--data {config.data}: is text; expected --model {of_text}, got {config.model}")
    apart = {"validation": config.validation, "test": config.test}
    for name, source in {"data": config.data, **apart}.items() if config.resume is not None else ():
        if source is not None and source not in named.NAMES and not os.path.exists(source):
            raise BadInput(
                f"--{name} {source}: no such file or folder; give --{name} with where the data of the run in "
                f"{config.resume} are now"
            )
    kinds = dict.fromkeys(config.categorical, CATEGORY)
    selection = Selection(config.drop, config.features, kinds, weights=config.weights, group=config.group)
    table = named.load(config.data, config.target, selection, stream=config.stream, form=form)
    for name in apart:
        share = f"{name}_fraction"
        if getattr(config, share) is not None and getattr(table, name) is not None:
            raise BadInput(f"{option(share)}: {config.data} comes with a {name} part of its own; leave it out")
    files = {
        f"--{name}": matching.beside(f"--{name}", source, table, config.weights, config.group, stream=config.stream)
        for name, source in apart.items()
        if source is not None
    }
    if config.group is not None:
        files = grouped.apart(config.group, {"--data": table} | files)
        table = files.pop("--data")
    return table._replace(**{name: files.get(f"--{name}", getattr(table, name)) for name in apart})
