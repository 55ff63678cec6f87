"""What is particular to a run that learns a text: how its data are made ready, and what is told at its end."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.experiment.console.errors import BadInput, Failure, option
from jaxnet.experiment.data.examples import Examples, prepare_text
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.data.split import Split
from jaxnet.experiment.devices import processes
from jaxnet.experiment.devices.mesh import Layout
from jaxnet.experiment.figures import text as figures
from jaxnet.experiment.figures.canvas import short
from jaxnet.experiment.figures.curves import draw_diagnostics
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import durable, folder, model_file
from jaxnet.experiment.storage.model import Model
from jaxnet.experiment.training.batches import blocks_of
from jaxnet.experiment.training.objective import make_judge
from jaxnet.experiment.training.position import Epoch
from jaxnet.experiment.training.text_readings import attention_maps, read

# Of the validation part, windows that are looked at for figures, at least, at most, and so many tokens between these;
# and of the first window, tokens whose attention is shown.
FEWEST, MOST, TOKENS, PROMPT = 8, 64, 2048, 24
LONGEST_LABEL = 9
# What is for columns, or for numbers.
OF_OTHER_DATA = (
    "target",
    "features",
    "drop",
    "categorical",
    "image_size",
    "validation",
    "test",
    "validation_fraction",
    "test_fraction",
    "group",
    "weights",
    "class_weights",
    "loss",
    "output_activation",
    "scale",
)


def examples_of(config: TrainConfig) -> Examples:
    """The text that a run learns from.

    Raises:
      BadInput: when it cannot be read, is too short, or options are for other data.
    """
    for name in OF_OTHER_DATA:
        if getattr(config, name) != getattr(TrainConfig, name):
            raise BadInput(f"{option(name)}: is not for text, which --model {config.model} learns; leave it out")
    if config.optimizer == "kfac":
        raise BadInput("--optimizer kfac: draws labels, which a loss that is the mean over positions has none of")
    sizes = config.context, config.batch_size, config.epoch_steps
    # What is private is a window: no other one may hold any of its tokens.
    disjoint = config.private_epsilon is not None
    return prepare_text(config.data, config.tokens, *sizes, stream=config.stream, disjoint=disjoint)


def draw(where: Path, config: TrainConfig, finished: Model, parts: Split, epochs: list[Epoch], kept: Epoch) -> None:
    """The figures of a run on text.

    Args:
      where: the folder for them.
      config: the options.
      finished: the model that is kept.
      parts: of the text; its validation part is looked at.
      epochs, kept: as for `finish`.
    """
    tokens, net, params = finished.tokens, finished.network.net, jax.tree.map(jnp.asarray, finished.params)
    assert tokens is not None
    training = "training, labels smoothed" if config.label_smoothing else "training"
    figures.draw_loss(where / "loss.png", epochs, kept, tokens.unit, training)
    if any(epoch.diagnostics for epoch in epochs):
        draw_diagnostics(where / "diagnostics.png", epochs)
        figures.draw_noise(where / "noise.png", epochs)
    windows: Any = (parts.validation.x, parts.validation.y)
    many = min(len(windows[0]), MOST, max(FEWEST, TOKENS // windows[0].context))
    x, y = (of_part[:many] for of_part in windows)
    figures.draw_gradients(where / "gradients.png", read(net, params, x, y), tokens.unit)
    prompt = x[0, :PROMPT]
    maps = attention_maps(net, params, prompt)
    if maps:
        figures.draw_attention(where / "attention.png", maps, [_shown(tokens, token) for token in prompt])


def _shown(tokens, token):
    """A token as a label: what cannot be seen has a sign of its own."""
    text = tokens.decode([int(token)])
    return short(text.translate({10: "\u21b5", 32: "\u2423", 9: "\u21e5"}), LONGEST_LABEL)


def finish(
    out: Path, finished: Model, config: TrainConfig, parts: Split, epochs: list[Epoch], kept: Epoch, layout: Layout
) -> dict[str, Any]:
    """Writes the model, and returns the scores for result.json.

    Args:
      out: the run's folder.
      finished: the model that is kept.
      config: the options.
      parts: of the text.
      epochs, kept: all of them, and the one after which the parameters were kept.
      layout: of the mesh.
    """
    problem, net, dtype = finished.problem, finished.network.net, str(finished.dtype)
    assert finished.tokens is not None
    test = blocks_of(parts.test, problem, dtype, layout)
    loss, accuracy = make_judge(net, loss_of(problem), problem, test, layout)(finished.params)

    def write():
        durable.write(out / model_file.FILE, model_file.content(finished))
        if not math.isfinite(loss):
            raise Failure("the test part's loss is not finite, though the other parts' are; lower --learning-rate")
        draw(out / folder.FIGURES, config, finished, parts, epochs, kept)

    processes.by_first(write)
    scores = {
        "validation": (kept.validation_loss, kept.validation_metric),
        "test": (loss, accuracy),
    }
    result: dict[str, Any] = {"unit": finished.tokens.unit}
    for part, (value, right) in scores.items():
        result |= {f"{part}_loss": value, f"{part}_bits": value / math.log(2), f"{part}_accuracy": right}
    return result
