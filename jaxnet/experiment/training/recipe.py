"""How a network is trained: what this room has to know of the options."""

from typing import Any, Literal, NamedTuple

from jaxnet.experiment.training.budget import Budget


class Recipe(NamedTuple):
    """The options of training; see `TrainConfig` for what each of them means.

    Attributes:
      batch_size: examples in a minibatch, at most.
      epochs: at the most.
      early_stopping: after so many epochs without a better validation loss; 0: never.
      seed: of start, order and noise.
      seeds: how many are trained at once, from that one on.
      dtype: of parameters and arithmetic; with 'bfloat16' parameters are in float32.
      optimizer: by name.
      learning_rate, weight_decay, beta1, beta2: None: what suits the optimizer.
      schedule: how the learning rate goes on: 'constant', 'cosine' or 'warmup-cosine'.
      warmup: for how long it rises, as '500' or '2epochs'; None: a twentieth of all steps.
      final_learning_rate, decay_epochs: where it ends, and after how many epochs; None: after `epochs`.
      clip_gradient: the length of the whole gradient, at most.
      accumulate: the gradients of how many batches make an update.
      label_smoothing: the share of each label that all classes get alike.
      kfac_interval, kfac_factor_interval: how many updates K-FAC's inverses, and its factors, serve.
      kfac_positions: 'expand' or 'reduce'.
      kfac_one_block: whether K-FAC takes a weight and its bias together.
      backward: 'hand' or 'autodiff'.
      feedback: through which weights the signal travels back.
      clip_examples: the length of an example's gradient, at most.
      weighted: whether some examples count more than others in the loss.
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
    seeds: int
    dtype: str
    optimizer: str
    learning_rate: float | None
    schedule: str
    warmup: str | None
    final_learning_rate: float
    decay_epochs: int | None
    beta1: float | None
    beta2: float | None
    weight_decay: float | None
    clip_gradient: float | None
    accumulate: int
    label_smoothing: float
    kfac_interval: int
    kfac_factor_interval: int
    kfac_positions: Literal["expand", "reduce"]
    kfac_one_block: bool
    backward: str
    feedback: str
    clip_examples: float | None
    weighted: bool
    noise_multiplier: float
    clip_layers: bool
    on_nan: str
    diagnostics: bool
    budget: Budget | None = None

    @property
    def parameters_dtype(self) -> str:
        """Of parameters, inputs and targets."""
        return "float32" if self.dtype == "bfloat16" else self.dtype


def recipe_of(options: Any) -> Recipe:
    """What of a run's options is about training; a budget is made of more than options."""
    return Recipe(**{name: getattr(options, name) for name in Recipe._fields if name not in Recipe._field_defaults})
