"""The options of `jaxnet train` that say how steps are made of gradients."""

import dataclasses
import re
from typing import Literal

from jaxnet.experiment.console.errors import BadInput, option

Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "nadamw", "rmsprop", "adagrad", "lion", "kfac"]
Schedule = Literal["constant", "cosine", "warmup-cosine"]

# Of rates and factors: products of two of them fit float32.
LARGEST = 1e18
# Those that average gradients, and their squares or signs.
WITH_BETAS = ("adam", "adamw", "nadamw", "lion")
OF_SCHEDULES = {
    "warmup": ("warmup-cosine",),
    "final_learning_rate": ("cosine", "warmup-cosine"),
    "decay_epochs": ("cosine", "warmup-cosine"),
}


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The optimizer, its learning rate step by step, and what is done to gradients before."""

    optimizer: Optimizer = "adamw"
    """From optax; kfac, which preconditions with Kronecker factors of the Fisher matrix, from this library."""
    learning_rate: float | None = None
    """By default what suits the optimizer: 0.1 for sgd, 0.01 for momentum, nesterov and adagrad, 0.0003 for lion,
    0.001 for the others; kfac chooses one for each step."""
    schedule: Schedule = "constant"
    """How the learning rate goes on. cosine: it falls along half a cosine, step by step, to --final-learning-rate;
    warmup-cosine: before that it rises to --learning-rate."""
    warmup: str | None = None
    """warmup-cosine: for how long the rate rises, as 500 (updates) or 2epochs; by default a twentieth of the steps of
    --decay-epochs."""
    final_learning_rate: float = 0.0
    """cosine, warmup-cosine: where the rate ends."""
    decay_epochs: int | None = None
    """cosine, warmup-cosine: after how many epochs the rate is there, and stays; by default the --epochs that the run
    was started with, also where it goes on with more."""
    beta1: float | None = None
    """adam, adamw, nadamw, lion: the share of the mean gradient that stays in each step; by default 0.9."""
    beta2: float | None = None
    """adam, adamw, nadamw: likewise of the mean square, by default 0.999; lion: of the mean that is kept, 0.99."""
    weight_decay: float | None = None
    """Of weights, not biases: W loses learning rate x weight decay x W at each step. By default 0.3 for adamw, nadamw
    and lion, which apply it beside the gradient; 0 for the others, which add it to the gradient."""
    clip_gradient: float | None = None
    """Shorten the gradient of all parameters together to this length at most, before the optimizer sees it."""
    accumulate: int = 1
    """Average the gradients of so many batches for one update: as a batch so many times as large, in less memory."""
    kfac_interval: int = 5
    """kfac: how many updates the inverses of its matrices serve."""
    kfac_factor_interval: int = 1
    """kfac: how many updates pass until another batch is averaged into its matrices."""
    kfac_positions: Literal["expand", "reduce"] = "expand"
    """kfac, of convolutions: count each place of a window as an example of its own, or take their sum and mean first,
    as suits networks that take the mean over an image in the end."""
    kfac_one_block: bool = True
    """kfac: take each layer's weight and bias together."""

    def __post_init__(self) -> None:
        for name in ("kfac_interval", "kfac_factor_interval", "decay_epochs", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{option(name)}: expected an integer of at least 1, got {value}")
        for name in ("learning_rate", "clip_gradient"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= LARGEST:
                raise BadInput(f"{option(name)}: expected a positive number up to {LARGEST:g}, got {value}")
        for name in ("weight_decay", "final_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LARGEST:
                raise BadInput(f"{option(name)}: expected a number from 0 to {LARGEST:g}, got {value}")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise BadInput(f"{option(name)}: expected a number of at least 0 and below 1, got {value}")
        if self.warmup is not None:
            read_warmup(self.warmup)
        self._check_optimizer()

    def _check_optimizer(self):
        for name in ("kfac_interval", "kfac_factor_interval", "kfac_positions", "kfac_one_block"):
            if self.optimizer != "kfac" and getattr(self, name) != getattr(OptimizerOptions, name):
                raise BadInput(f"{option(name)}: is for --optimizer kfac, got --optimizer {self.optimizer}")
        for name in ("beta1", "beta2"):
            if getattr(self, name) is not None and self.optimizer not in WITH_BETAS:
                raise BadInput(
                    f"{option(name)}: is for --optimizer {', '.join(WITH_BETAS)}; got --optimizer {self.optimizer}"
                )
        for name, schedules in OF_SCHEDULES.items():
            if self.schedule not in schedules and getattr(self, name) != getattr(OptimizerOptions, name):
                raise BadInput(
                    f"{option(name)}: is for --schedule {' and '.join(schedules)}, got --schedule {self.schedule}"
                )
        if self.optimizer != "kfac":
            return
        if self.schedule != "constant" and self.learning_rate is None:
            raise BadInput(
                f"--schedule {self.schedule}: kfac chooses a learning rate for each step; give a --learning-rate"
            )
        if self.accumulate > 1 and self.learning_rate is None:
            raise BadInput("--accumulate: kfac chooses its learning rates by one batch; give a --learning-rate")
        if self.clip_gradient is not None:
            raise BadInput("--clip-gradient: kfac chooses its steps' lengths itself; use another --optimizer")


def read_warmup(text: str) -> tuple[int, str]:
    """From '500' or '500steps' to (500, 'steps'); from '2epochs' to (2, 'epochs').

    Raises:
      BadInput: when it is something else.
    """
    match = re.fullmatch(r"([1-9]\d{0,8}) ?(steps?|epochs?|)", text.strip())
    if match is None:
        raise BadInput(f"--warmup: expected steps, as 500, or epochs, as 2epochs; got {text!r}")
    return int(match[1]), "epochs" if match[2].startswith("epoch") else "steps"
