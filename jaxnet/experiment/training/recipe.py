"""How a network is trained: what this room has to know of the options."""

from typing import Literal, NamedTuple

from jaxnet.experiment.training.budget import Budget


class Recipe(NamedTuple):
    """The options of training; see `TrainConfig` for what each of them means.

    Attributes:
      batch_size: examples in a minibatch, at most.
      epochs: at the most.
      early_stopping: after so many epochs without a better validation loss; 0: never.
      seed: of start, order and noise.
      dtype: of parameters and arithmetic; with 'bfloat16' parameters are in float32.
      optimizer: by name.
      learning_rate, weight_decay: None: what suits the optimizer.
      kfac_interval, kfac_factor_interval: how many updates K-FAC's inverses, and its factors, serve.
      kfac_positions: 'expand' or 'reduce'.
      kfac_one_block: whether K-FAC takes a weight and its bias together.
      backward: 'hand' or 'autodiff'.
      feedback: through which weights the signal travels back.
      clip_examples: the length of an example's gradient, at most.
      noise_multiplier: in units of that.
      clip_layers: whether each parameter's gradient is clipped by itself.
      on_nan: 'stop', 'skip' or 'rollback'.
      diagnostics: whether the layers are looked at after each epoch.
      budget: of a private run, whose noise multiplier is that of the recipe; else None.
    """

    batch_size: int
    epochs: int
    early_stopping: int
    seed: int
    dtype: str
    optimizer: str
    learning_rate: float | None
    weight_decay: float | None
    kfac_interval: int
    kfac_factor_interval: int
    kfac_positions: Literal["expand", "reduce"]
    kfac_one_block: bool
    backward: str
    feedback: str
    clip_examples: float | None
    noise_multiplier: float
    clip_layers: bool
    on_nan: str
    diagnostics: bool
    budget: Budget | None = None

    @property
    def parameters_dtype(self) -> str:
        """Of parameters, inputs and targets."""
        return "float32" if self.dtype == "bfloat16" else self.dtype
