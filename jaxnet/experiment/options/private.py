"""What the options of private training ask of the others: that nothing tells of an example but through the noise."""

from typing import TYPE_CHECKING

from jaxnet.experiment.console.errors import BadInput

if TYPE_CHECKING:
    from jaxnet.experiment.options.train_config import TrainConfig

# An accountant knows no more of less, and beyond there is nothing to protect.
LEAST_EPSILON, LARGEST_EPSILON = 0.01, 100.0


def check_private(config: "TrainConfig") -> None:
    """Refuses what breaks the guarantee of `--private-epsilon`, or has no meaning without it.

    Raises:
      BadInput: naming the option, and why.
    """
    if config.clip_layers and config.clip_examples is None:
        raise BadInput("--clip-layers: shares out --clip-examples, which is missing")
    if not 0 < config.private_delta < 1:
        raise BadInput(f"--private-delta: expected a number between 0 and 1, got {config.private_delta}")
    epsilon = config.private_epsilon
    if epsilon is None:
        if config.private_delta != type(config).private_delta:
            raise BadInput("--private-delta: goes with --private-epsilon, which is missing")
        return
    if not LEAST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise BadInput(
            f"--private-epsilon: expected a number from {LEAST_EPSILON:g} to {LARGEST_EPSILON:g}, got {epsilon}"
        )
    if config.clip_examples is None:
        raise BadInput("--private-epsilon: needs a length that no example's gradient exceeds; add --clip-examples 1")
    for name, broken in _breaking(config).items():
        if broken is not None:
            raise BadInput(f"{name}: {broken}; leave it out with --private-epsilon")


def _breaking(config):
    """By option: what it does to the guarantee, where it is asked for."""
    return {
        "--noise-multiplier": "it is found from --private-epsilon" if config.noise_multiplier else None,
        "--weights": None if config.weights is None else "what an example counts depends on the others', by the mean",
        "--class-weights": "they tell how many examples each class has" if config.class_weights != "none" else None,
        "--optimizer kfac": "sees the examples beside the noise" if config.optimizer == "kfac" else None,
        "--epoch-steps": "each step draws from all windows of the text" if config.epoch_steps else None,
        "--accumulate": "an example may be in several batches of one update" if config.accumulate > 1 else None,
        "--diagnostics": "tells of single layers' gradients without noise" if config.diagnostics else None,
        f"--on-nan {config.on_nan}": (
            "what is done then depends on the examples, and steps made twice are paid twice"
            if config.on_nan != "stop"
            else None
        ),
    }
