"""A whole run, from options to a folder of results."""

import dataclasses
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import numpy as np

from jaxnet.experiment import data, figures, folder, loop, model, optimizers
from jaxnet.experiment.cache import use_compilation_cache
from jaxnet.experiment.config import TrainConfig
from jaxnet.experiment.errors import Failure, Terminated
from jaxnet.experiment.loop import Epoch, Position, Trained
from jaxnet.experiment.options import parse
from jaxnet.experiment.problem import Problem, loss_of, pose
from jaxnet.experiment.progress import progress
from jaxnet.experiment.resumption import fingerprint, resume, save
from jaxnet.experiment.schedule import Schedule
from jaxnet.experiment.scores import scores
from jaxnet.experiment.split import Split, split
from jaxnet.experiment.stopping import on_signals
from jaxnet.experiment.table import Table

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
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Failure(f"JAX finds no device to run on ({reason[0]}); JAX_PLATFORMS=cpu takes the CPU") from None
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
    return run(config)


def run(config: TrainConfig) -> dict[str, Any]:
    """Loads, trains, tests, and fills the run's folder.

    Returns:
      What result.json holds.

    Raises:
      BadInput: before anything is written.
      Failure: when training cannot go on.
    """
    started = time.perf_counter()
    folder.check(config)
    found = device()
    with jax.enable_x64(config.dtype == "float64"):
        table = data.load(config.data, config.target, stream=config.stream)
        problem, table = pose(table, config)
        parts, problem = split(table, problem, config.seed)
        print(f"device     {found}")
        _print_plan(config, table, problem, parts)
        with ExitStack() as stack:
            out = folder.again(config, stack) if config.resume is not None else folder.make(config, stack)
            try:
                result = _fill(out, config, table, problem, parts)
                result["seconds"] = round(time.perf_counter() - started, 3)
                folder.write_json(out / folder.RESULT, result)
                out = folder.finish(config, out)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(folder.contents(out)) from None
            except Failure as failure:
                raise type(failure)(f"{failure}; {folder.contents(out)}".removeprefix("; ")) from None
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise Failure(f"out of memory on {device()}; lower --hidden or --batch-size") from None
    _print_result(out, result)
    return result


def _fill(out: Path, config: TrainConfig, table: Table, problem: Problem, parts: Split) -> dict[str, Any]:
    """Everything but result.json, which is returned."""
    # Matplotlib is loaded while XLA compiles, which leaves Python alone.
    Thread(target=figures.get_ready, daemon=True).start()
    trained, epochs = _train(out, config, table, problem, parts)
    finished = model.Model(
        sizes=model.sizes_of(config, table.x.shape[1], problem),
        activation=config.activation,
        params=jax.tree.map(np.asarray, trained.params),
        standardisation=parts.standardisation,
        problem=problem,
        features=table.features,
    )
    model.save(out, finished)
    result, predicted = _test(config, problem, parts, trained)
    _draw(out / folder.FIGURES, epochs, trained, finished, parts, predicted)
    return result | {"kept_epoch": trained.kept.number, "epochs": len(epochs), "device": device()}


def _train(out, config, table, problem, parts):
    """The outcome and all epochs; metrics.jsonl and checkpoints are written as it goes on."""
    about = {"config": dataclasses.asdict(config), "data": fingerprint(table)}
    metrics = folder.Metrics(out, problem.metric)

    def restore(start):
        position = start if config.resume is None else resume(out, start, about)
        metrics.begin(position.epochs)
        return position

    with on_signals() as stop, progress(config.epochs, problem.metric) as show:
        for event in loop.train(config, problem, parts, stop, restore):
            match event:
                case Trained():
                    return event, metrics.epochs
                case Epoch():
                    metrics.add(event)
                    show(event)
                case Position():
                    if Schedule.read(config.checkpoint_every).every:
                        save(out, event, about, config.keep)
                    if stop.signal == signal.SIGTERM:
                        raise Terminated("")
                    if stop():
                        raise KeyboardInterrupt
    raise AssertionError("training ended without an outcome")


def _test(config, problem, parts, trained):
    net, loss = loop.make_network(config, problem, parts.train.x.shape[1]), loss_of(problem)

    @jax.jit
    def outputs_and_losses(params, x, y):
        z = net.apply(params, x)
        return z, loss.forward(z, y)

    outputs, losses = [], []
    for x, y in loop.blocks_of(parts.test, problem, config.parameters_dtype)():
        z, values = outputs_and_losses(trained.params, x, y)
        outputs.append(problem.predict(z))
        losses.append(np.asarray(values))
    predicted = np.concatenate(outputs)
    measured = scores(problem, predicted, parts.test.y)
    targets = measured.pop("targets", None)
    result: dict[str, Any] = {"test_loss": float(np.concatenate(losses).mean())}
    result |= {f"test_{name}": value for name, value in measured.items()}
    return result | ({"targets": targets} if targets else {}), predicted


def _draw(where, epochs, trained, finished, parts, predicted):
    problem, test = finished.problem, parts.test
    figures.draw_curves(where / "loss.png", epochs, problem, trained.kept)
    if not problem.classes:
        figures.draw_predictions(where / "predictions.png", predicted, test.y, problem.targets)
        return
    figures.draw_confusion(where / "confusion.png", predicted.argmax(axis=1), test.y, problem.classes)
    if len(finished.features) == 2:
        x = test.x if isinstance(test.x, np.ndarray) else test.x.read(slice(None), "float64")
        figures.draw_boundary(where / "boundary.png", finished, x, test.y)


def _print_plan(config, table, problem, parts):
    sizes = model.sizes_of(config, table.x.shape[1], problem)
    counts = f"{len(parts.train.y)} training, {len(parts.validation.y)} validation, {len(parts.test.y)} test examples"
    streamed = ", streamed from disk" if config.stream else ""
    print(f"data       {table.source}: {counts} of {table.x.shape[1]} features{streamed}")
    print(f"problem    {problem.kind}: {problem.loss}")
    print(f"network    {'-'.join(map(str, sizes))}, {config.activation}, output {problem.output_activation}")
    rate, decay = optimizers.learning_rate(config), optimizers.weight_decay(config)
    chosen = "its own learning rate" if rate is None else f"learning rate {rate:g}"
    print(f"optimizer  {config.optimizer}, {chosen}, weight decay {decay:g}, backward by {config.backward}", end="")
    print("" if config.feedback == "transpose" else f" through {WAYS_BACK[config.feedback]}")
    if config.clip_examples is not None:
        noise = f", noise of {config.noise_multiplier:g} times that on their sum" if config.noise_multiplier else ""
        print(f"examples   gradients clipped to length {config.clip_examples:g}{noise}")


def _print_result(out, result):
    score = (
        f"test accuracy {100 * result['test_accuracy']:.2f}%"
        if "test_accuracy" in result
        else f"test RMSE {result['test_rmse']:.4g}" + (f", R2 {result['test_r2']:.3f}" if "test_r2" in result else "")
    )
    print(f"result     {score}, test loss {result['test_loss']:.4f}, ", end="")
    print(f"after epoch {result['kept_epoch']} of {result['epochs']}, {result['seconds']:.1f} s")
    print(f"written    {out}/")
