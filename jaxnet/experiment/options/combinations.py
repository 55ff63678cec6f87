"""Which options of `jaxnet train` do not go with each other."""

import re
from typing import Any

from jaxnet.experiment.console.errors import BadInput, option
from jaxnet.experiment.networks.architecture import architecture_of
from jaxnet.experiment.options.cadence import Cadence
from jaxnet.experiment.options.mesh_sizes import read_mesh
from jaxnet.experiment.options.private import check_private


def check_seeds(config: Any) -> None:
    """Refuses options that do not go with several seeds.

    Raises:
      BadInput: naming them.
    """
    if config.seed + config.seeds > 2**32:
        raise BadInput(f"--seeds {config.seeds}: with --seed {config.seed} the last one is not below 2^32")
    alone = {
        "--mesh": config.mesh is not None,
        "--distributed": config.distributed,
        "--stream": config.stream,
        f"--model {config.model}, whose samples and figures follow one network": architecture_of(config.model).ids,
        "--optimizer kfac": config.optimizer == "kfac",
        "--private-epsilon": config.private_epsilon is not None,
        f"--on-nan {config.on_nan}": config.on_nan != "stop",
    }
    for name in (name for name, is_given in alone.items() if is_given):
        raise BadInput(f"--seeds {config.seeds}: does not go with {name}; start a run for each --seed")


def check_combinations(config: Any) -> None:
    """Refuses options that do not go with each other.

    Raises:
      BadInput: naming them.
    """
    if config.on_nan == "rollback" and not Cadence.read(config.checkpoint_every).every:
        raise BadInput("--on-nan rollback: goes back to checkpoints, and --checkpoint-every 0 writes none")
    for name in ("coordinator", "processes", "process_id"):
        if getattr(config, name) is not None and not config.distributed:
            raise BadInput(f"{option(name)}: is for a run of several processes; add --distributed")
    read_mesh(config.mesh, 1)
    count, number = config.processes, config.process_id
    if count is not None and count < 1:
        raise BadInput(f"--processes: expected an integer of at least 1, got {count}")
    if number is not None and not 0 <= number < (count or 2**31):
        raise BadInput(f"--process-id: expected an integer from 0 to --processes - 1, got {number}")
    if config.coordinator is not None and not re.fullmatch(r"\S+:\d{1,5}", config.coordinator):
        raise BadInput(f"--coordinator: expected HOST:PORT, as 10.0.0.1:1234; got {config.coordinator!r}")
    check_private(config)
    if config.noise_multiplier and config.clip_examples is None:
        raise BadInput("--noise-multiplier: is in units of --clip-examples, which is missing")
    if config.noise_multiplier and config.optimizer == "kfac":
        raise BadInput("--noise-multiplier: kfac sees the examples beside the noise; use another --optimizer")
    _check_kfac(config)
    last = config.decay_epochs
    if last is not None and config.epochs > last and not config.final_learning_rate:
        raise BadInput(
            f"--epochs {config.epochs}: the learning rate is 0 after epoch {last}, and nothing is learnt from there "
            "on; start a run with a --final-learning-rate or more --decay-epochs"
        )
    if config.backward == "autodiff" and config.feedback != "transpose":
        raise BadInput(f"--feedback {config.feedback}: needs --backward hand; jax.grad knows only the transpose")
    if config.backward == "autodiff" and config.clip_examples is not None:
        raise BadInput("--clip-examples: needs --backward hand; jax.grad gives no example's gradient")


def _check_kfac(config):
    if config.optimizer == "kfac" and config.loss == "sigmoid_focal_loss":
        raise BadInput("--loss sigmoid_focal_loss: gives kfac no labels to draw; use another --loss or --optimizer")
    if config.kfac_positions == "reduce" and config.model == "mlp":
        raise BadInput("--kfac-positions reduce: is for convolutions, as of --model cnn; mlp has no positions")
