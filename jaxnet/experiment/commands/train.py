"""A whole run, from options to a folder of results."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.experiment.commands.recording import train_and_record
from jaxnet.experiment.console import packages
from jaxnet.experiment.console.errors import BadInput, Failure, first_line
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.data import named
from jaxnet.experiment.data.examples import prepare
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.devices import processes
from jaxnet.experiment.devices.cache import use_compilation_cache
from jaxnet.experiment.devices.mesh import make_layout, require_split
from jaxnet.experiment.figures import canvas, curves, test_part
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.schedule import Schedule
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import durable, exports, folder, model
from jaxnet.experiment.training import updates
from jaxnet.experiment.training.batches import blocks_of
from jaxnet.experiment.training.scores import scores

WAYS_BACK = {
    "random": "fixed random weights",
    "sign": "the signs of the weights",
    "direct": "fixed random weights from the output",
}


def device() -> str:
    """The device that JAX found, as results name it.

    Raises:
      Failure: when JAX finds none.
    """
    try:
        found = jax.devices()[0]
    except Exception as error:  # each platform fails in its own way
        raise Failure(f"JAX finds no device to run on ({first_line(error)}); JAX_PLATFORMS=cpu takes the CPU") from None
    return found.platform if found.device_kind.lower() == found.platform else f"{found.platform} ({found.device_kind})"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """`run`, as a script's process does it: with a command line, and JAX's compilation cache.

    Args:
      arguments: without the program's name; those of this process by default.
    """
    config = parse(TrainConfig, arguments)
    if config.resume is not None:
        config = parse(TrainConfig, arguments, default=folder.read_config(Path(config.resume)))
    if config.compilation_cache:
        use_compilation_cache()
    if not config.distributed:
        return run(config)
    with processes.connected(config) as named:
        return run(config, named)


def run(config: TrainConfig, named: Callable[..., None] = lambda folder: None) -> dict[str, Any]:
    """Loads, trains, tests, and fills the run's folder.

    Args:
      config: the options.
      named: is told the run's folder, once it is there.

    Returns:
      What result.json holds.

    Raises:
      BadInput: before anything is written.
      Failure: when training cannot go on.
    """
    started = time.perf_counter()
    _require_packages(config)
    # First of all: what the processes tell one another goes through JAX too.
    found = device()
    processes.by_first(lambda: folder.check(config))
    layout = processes.together(lambda: make_layout(config.mesh, distributed=config.distributed))
    with ExitStack() as stack:
        stack.enter_context(processes.alone_heard())
        stack.enter_context(jax.enable_x64(config.dtype == "float64"))
        examples = _prepare(config)
        problem = examples.problem
        network = config.network(examples.parts.train.x.shape[1:], problem.outputs, problem.output_activation)
        examples = examples._replace(parts=examples.parts.shaped(network.shape))
        processes.together(lambda: require_split(layout, network, config.parameters_dtype))
        _print_plan(config, examples, network, found, layout)
        out = Path(processes.by_first(lambda: str(_open_folder(config, problem, examples.parts, network, stack))))
        named(str(out))
        try:
            result = _fill(out, config, examples, network, layout)
            result["seconds"] = round(time.perf_counter() - started, 3)
            out = Path(processes.by_first(lambda: str(_finish(out, config, result))))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(folder.contents(out)) from None
        except BadInput:
            # Refused: the folder is as it was.
            raise
        except Failure as failure:
            raise type(failure)(f"{failure}; {folder.contents(out)}".removeprefix("; ")) from None
        except OSError as error:
            if error.filename is None:
                raise
            raise Failure(f"{error.filename}: {error.strerror}; {folder.contents(out)}") from None
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise Failure(f"out of memory on {device()}; lower --batch-size or train a smaller network") from None
        _print_result(out, result)
        for line in exports.stale(out):
            say(line)
    return result


def _require_packages(config):
    """Asks for all that the run will need, some of it at its end."""
    with_checkpoints = config.resume is not None or Schedule.read(config.checkpoint_every).every
    packages.require("sklearn", "matplotlib", "filelock", "rich", *(["orbax.checkpoint"] if with_checkpoints else []))
    if config.tensorboard and not packages.is_there("tensorboardX"):
        raise Failure(f"--tensorboard: {packages.missing('tensorboardX')}")


def _open_folder(config, problem, parts, network, stack):
    if config.resume is not None:
        return folder.again(config, stack)
    resolved = {
        "loss": problem.loss,
        "output_activation": problem.output_activation,
        **network.settled,
        "learning_rate": updates.learning_rate(config),
        "weight_decay": updates.weight_decay(config),
        "batch_size": min(config.batch_size, len(parts.train.y)),
    }
    return folder.make(config, resolved, stack)


def _prepare(config):
    """What the run learns from."""
    return prepare(
        processes.together(lambda: _load(config)),
        config.seed,
        scale=config.scale,
        loss=config.loss,
        output_activation=config.output_activation,
    )


def _load(config):
    if config.resume is not None and config.data not in named.NAMES and not os.path.exists(config.data):
        raise BadInput(
            f"--data {config.data}: no such file or folder; give --data with where the data of the run in "
            f"{config.resume} are now"
        )
    return named.load(config.data, config.target, stream=config.stream)


def _fill(out, config, examples, network, layout):
    """Everything but result.json, which is returned."""
    problem, parts = examples.problem, examples.parts
    if processes.is_first():
        # Matplotlib is loaded while XLA compiles, which leaves Python alone.
        Thread(target=canvas.get_ready, daemon=True).start()

    def model_of(params):
        return model.Model(
            network=network,
            params=layout.fetch(params),
            scaling=parts.scaling,
            problem=problem,
            features=examples.features,
            origin=model.Origin(examples.fingerprint, config.stream, config.seed),
        )

    trained, epochs = train_and_record(out, config, examples.fingerprint, problem, parts, layout, model_of)
    finished = model_of(trained.params)
    result, predicted = _test(config, problem, parts, network.net, trained.params, layout)

    def write():
        durable.write(out / model.FILE, model.content(finished))
        if not np.isfinite(result["test_loss"]):
            others = "though the other parts' are"
            raise Failure(f"the test part's loss is not finite, {others}; look for extreme values in the data")
        _draw(out / folder.FIGURES, epochs, trained, finished, parts, predicted)

    processes.by_first(write)
    return result | {"kept_epoch": trained.kept.number, "epochs": len(epochs), "device": device()}


def _finish(out, config, result):
    """Writes result.json, with which a run is complete, and returns where the run is from now on."""
    folder.write_json(out / folder.RESULT, result)
    return folder.finish(config, out)


def _test(config, problem, parts, net, params, layout):
    loss = loss_of(problem)

    @partial(jax.jit, out_shardings=layout.places())
    def outputs_and_losses(params, x, y):
        z = net.apply(params, x)
        return z, loss.forward(z, y)

    outputs, losses = [], []
    for x, y, _, rows in blocks_of(parts.test, problem, config.parameters_dtype, layout)():
        z, values = jax.device_get(outputs_and_losses(params, x, y))
        outputs.append(problem.predict(jnp.asarray(z[:rows])))
        losses.append(values[:rows])
    predicted = np.concatenate(outputs)
    measured = scores(problem, predicted, parts.test.y)
    targets = measured.pop("targets", None)
    result: dict[str, Any] = {"test_loss": float(np.concatenate(losses).mean())}
    result |= {f"test_{name}": value for name, value in measured.items()}
    return result | ({"targets": targets} if targets else {}), predicted


def _draw(where, epochs, trained, finished, parts, predicted):
    problem, test = finished.problem, parts.test
    curves.draw_curves(where / "loss.png", epochs, problem, trained.kept)
    if any(epoch.diagnostics for epoch in epochs):
        curves.draw_diagnostics(where / "diagnostics.png", epochs)
    if not problem.classes:
        test_part.draw_predictions(where / "predictions.png", predicted, test.y, problem.targets)
        return
    test_part.draw_confusion(where / "confusion.png", predicted.argmax(axis=1), test.y, problem.classes)
    if finished.network.shape == (2,):
        x = test.x.read(slice(None), np.float64)
        test_part.draw_boundary(where / "boundary.png", finished, x, test.y)


def _print_plan(config, examples, network, found, layout):
    problem, parts = examples.problem, examples.parts
    devices, several = layout.mesh.shape, jax.process_count() > 1
    over = f", {devices['data']} for examples x {devices['model']} for neurons" if layout.mesh.size > 1 else ""
    say(f"device     {found}{over}" + (f", in {jax.process_count()} processes" if several else ""))
    counts = f"{len(parts.train.y)} training, {len(parts.validation.y)} validation, {len(parts.test.y)} test examples"
    streamed = ", streamed from disk" if config.stream else ""
    scaled = ", all on one scale" if examples.image and config.scale != "none" else ""
    say(f"data       {examples.name}: {counts} of {len(examples.features)} features{scaled}{streamed}")
    say(f"problem    {problem.kind}: {problem.loss}")
    say(f"network    {network}")
    rate, decay = updates.learning_rate(config), updates.weight_decay(config)
    chosen = "its own learning rate" if rate is None else f"learning rate {rate:g}"
    through = "" if config.feedback == "transpose" else f" through {WAYS_BACK[config.feedback]}"
    say(f"optimizer  {config.optimizer}, {chosen}, weight decay {decay:g}, backward by {config.backward}{through}")
    if config.clip_examples is not None:
        noise = f", noise of {config.noise_multiplier:g} times that on their sum" if config.noise_multiplier else ""
        say(f"examples   gradients clipped to length {config.clip_examples:g}{noise}")


def _print_result(out, result):
    score = (
        f"test accuracy {100 * result['test_accuracy']:.2f}%"
        if "test_accuracy" in result
        else f"test RMSE {result['test_rmse']:.4g}" + (f", R2 {result['test_r2']:.3f}" if "test_r2" in result else "")
    )
    after = f"after epoch {result['kept_epoch']} of {result['epochs']}, {result['seconds']:.1f} s"
    say(f"result     {score}, test loss {result['test_loss']:.4f}, {after}")
    say(f"written    {out}/")
