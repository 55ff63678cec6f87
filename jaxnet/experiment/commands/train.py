"""A whole run, from options to a folder of results: data, network, training, test, figures."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import jax

from jaxnet.experiment.commands import beforehand, ending, reading, text_runs
from jaxnet.experiment.commands.announcement import print_plan, print_result
from jaxnet.experiment.commands.cut_short import telling
from jaxnet.experiment.commands.recording import Kept, train_and_record
from jaxnet.experiment.console.errors import Failure, first_line
from jaxnet.experiment.console.screen import say
from jaxnet.experiment.devices import processes
from jaxnet.experiment.devices.allocator import GIVEN_BACK, keep_freed_memory
from jaxnet.experiment.devices.cache import use_compilation_cache
from jaxnet.experiment.devices.mesh import make_layout, require_split
from jaxnet.experiment.devices.processes import Joining
from jaxnet.experiment.figures import canvas
from jaxnet.experiment.networks.options import suited
from jaxnet.experiment.options.parse import parse
from jaxnet.experiment.options.resumed import require_same, restored
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import exports, folder, model
from jaxnet.experiment.storage.samples import Samples
from jaxnet.experiment.training import rates, updates
from jaxnet.experiment.training.seeds import best_of, of_seed


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
    """`run`, as a script's process does it: with a command line, JAX's compilation cache, and memory that suits it.

    Args:
      arguments: without the program's name; those of this process by default.
    """
    suits = suited(sys.argv[1:] if arguments is None else arguments)
    config = parse(TrainConfig, arguments, default=TrainConfig(**suits) if suits else None)
    if config.resume is not None:
        config = parse(TrainConfig, arguments, default=folder.read_options(Path(config.resume), restored))
    if _takes_much(config):
        keep_freed_memory()
    if config.compilation_cache:
        use_compilation_cache()
    if not config.distributed:
        return run(config)
    joining = Joining(config.coordinator, config.processes, config.process_id)
    with processes.connected(joining, config.resume or config.out or "RUN") as named:
        return run(config, named)


def _takes_much(config):
    """Whether a step may have as much as the system would take back: a dense network only where it is wide."""
    # An array for each layer, of its weights or of a batch's signals.
    widest = max(config.hidden, default=0)
    of_layers = 4 * len(config.hidden) * widest * max(widest, config.batch_size)
    return config.model != "mlp" or of_layers >= GIVEN_BACK


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
    beforehand.require_packages(config)
    # First of all: what the processes tell one another goes through JAX too.
    found = device()
    processes.by_first(lambda: beforehand.check_folder(config))
    config = beforehand.with_end_of_decay(config)
    layout = processes.together(
        lambda: make_layout(config.mesh, distributed=config.distributed, shard_state=config.shard_state)
    )
    with ExitStack() as stack:
        stack.enter_context(processes.alone_heard())
        stack.enter_context(jax.enable_x64(config.dtype == "float64"))
        examples = reading.prepared(config)
        recipe = processes.together(lambda: beforehand.with_budget(config, examples.parts.train.examples))
        if recipe.budget is not None:
            # A gradient's length has to be right, which shorter factors of products would not let it be.
            stack.enter_context(jax.default_matmul_precision("highest"))
        problem = examples.problem
        processes.together(lambda: beforehand.require_fit(recipe, examples))
        network = config.network(examples.parts.train.x.shape[1:], problem.outputs, problem.output_activation)
        examples = examples._replace(parts=examples.parts.shaped(network.shape))
        processes.together(lambda: require_split(layout, network, recipe.parameters_dtype))
        print_plan(found, layout, examples, network, recipe, config)
        out = Path(processes.by_first(lambda: str(_open_folder(config, recipe, examples, network, stack))))
        named(str(out))
        say(f"folder     {out}/")
        with telling(out, device):
            result = _fill(out, config, recipe, examples, network, layout)
            result["seconds"] = round(time.perf_counter() - started, 3)
            out = Path(processes.by_first(lambda: str(_finish(out, config, result))))
        print_result(out, result)
        for line in exports.stale(out):
            say(line)
    return result


def _open_folder(config, recipe, examples, network, stack):
    if config.resume is not None:
        run = Path(config.resume)
        require_same(config, folder.read_options(run, restored), run)
        return folder.again(run, stack)
    resolved = {
        "loss": examples.problem.loss,
        "output_activation": examples.problem.output_activation,
        **network.settled,
        "learning_rate": rates.learning_rate(recipe),
        "weight_decay": updates.weight_decay(recipe),
        "batch_size": min(recipe.batch_size, examples.parts.train.examples),
    }
    if recipe.budget is not None:
        resolved["noise_multiplier"] = recipe.noise_multiplier
    return folder.make(dataclasses.asdict(config), resolved, stack)


def _fill(out, config, recipe, examples, network, layout):
    """Everything but result.json, which is returned."""
    problem, parts = examples.problem, examples.parts
    if processes.is_first():
        # Matplotlib is loaded while XLA compiles, which leaves Python alone.
        Thread(target=canvas.get_ready, daemon=True).start()

    def model_of(params, epoch):
        best = params if recipe.seeds == 1 else of_seed(params, best_of(epoch))
        return model.Model(
            network=network,
            params=layout.fetch(best),
            scaling=parts.scaling,
            problem=problem,
            features=parts.features,
            origin=model.Origin(
                examples.fingerprint,
                config.stream,
                config.seed,
                *reading.fractions(config),
                config.group,
                config.weights,
            ),
            treatments=parts.treatments,
            left_out=examples.beside,
            tokens=examples.tokens,
            form=examples.form,
        )

    samples = None if examples.tokens is None else Samples(out, network, config.seed)
    kept = Kept(out, config, examples.joint_fingerprint, model_of, samples)
    trained, epochs = train_and_record(kept, recipe, network.net, problem, parts, layout)
    finished = model_of(trained.params, trained.kept)
    if problem.positions:
        result = text_runs.finish(out, finished, config, parts, epochs, trained.kept, layout)
    else:
        result = ending.finish(out, finished, config, parts, epochs, trained, layout)
    if recipe.budget is not None:
        result |= {"epsilon": epochs[-1].epsilon, "delta": recipe.budget.delta}
    return result | {"kept_epoch": trained.kept.number, "epochs": len(epochs), "device": device()}


def _finish(out, config, result):
    """Writes result.json, with which a run is complete, and returns where the run is from now on."""
    folder.write_json(out / folder.RESULT, result)
    if config.private_epsilon is not None:
        folder.forget_keys(out)
    return folder.finish(out, None if config.resume is not None else config.out)
