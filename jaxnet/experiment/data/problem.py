"""What is learnt: how targets meet the network's outputs, and what predictions are made of these."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet import losses

# Of labels, each by itself; and from which probability on one is said to apply.
LOSSES_OF_LABELS = ("sigmoid_binary_cross_entropy", "binary_cross_entropy")
LIKELY = 0.5
# Of labels at each position of an example, whose loss is the mean over these.
OF_POSITIONS = losses.cross_entropy(over_positions="mean")
OUTPUT_RANGES = {"sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, np.inf), "softplus": (0, np.inf)}


class Problem(NamedTuple):
    """The targets' side of a run.

    Attributes:
      kind: 'two classes', 'N classes', 'N labels', 'regression' or 'regression with N outputs'.
      targets: the targets' names.
      classes: the classes' names in the order of their numbers; empty for labels and for regression.
      loss: the name of the loss in `jaxnet.losses`.
      output_activation: what follows the last layer.
      mean, scale: (targets,), regression only: the network is trained on (y - mean) / scale. For counts mean is 0.
      positions: whether an example has a target at each of its positions, over which its loss is the mean.
    """

    kind: str
    targets: tuple[str, ...]
    classes: tuple[str, ...]
    loss: str
    output_activation: str
    mean: np.ndarray
    scale: np.ndarray
    positions: bool = False

    @property
    def labels(self) -> bool:
        """Whether each target is a label that applies to an example or does not, 1 or 0, beside the others."""
        return not self.classes and self.loss in LOSSES_OF_LABELS

    @property
    def regression(self) -> bool:
        """Whether the targets are values."""
        return not self.classes and not self.labels

    @property
    def outputs(self) -> int:
        """The number of the network's outputs."""
        if not self.classes:
            return len(self.targets)
        return 1 if self._one_probability else len(self.classes)

    @property
    def _one_probability(self) -> bool:
        return len(self.classes) == 2 and "softmax" not in self.loss

    def encode(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        """Targets as the loss takes them: numbers of classes, one-hot rows, labels of 0 and 1, or scaled values."""
        if self.labels:
            return y.astype(dtype)
        if self.regression:
            return ((y - self.mean) / self.scale).astype(dtype)
        if self.loss == "softmax_cross_entropy_with_integer_labels":
            return y
        if self._one_probability:
            return y[:, None].astype(dtype)
        return np.eye(len(self.classes), dtype=dtype)[y]

    def probabilities(self, z: jax.Array) -> jax.Array:
        """From outputs to every class's or label's probability, (m, classes) or (m, targets)."""
        if "softmax" in self.loss:
            return jax.nn.softmax(z)
        p = z if self.loss == "binary_cross_entropy" else jax.nn.sigmoid(z)
        return jnp.concatenate([1 - p, p], axis=1) if self._one_probability else p

    def predict(self, z: jax.Array | np.ndarray) -> np.ndarray:
        """From outputs to probabilities, or to values (m, targets) in the targets' own units."""
        if not self.regression:
            # Compiled as one: operation by operation takes longer. A method of ours has no hash, which jit needs.
            return np.asarray(jax.jit(lambda z: self.probabilities(z))(z))  # noqa: PLW0108
        # In float64, since units may be such that float32 overflows.
        values = np.asarray(z, np.float64)
        with np.errstate(over="ignore"):
            return (np.exp(values) if self.of_counts else values) * self.scale + self.mean

    @property
    def of_counts(self) -> bool:
        """Whether outputs are logarithms of what is predicted."""
        return self.loss == "poisson_nll_loss"

    def values(self, z: jax.Array) -> jax.Array:
        """From outputs to what is predicted of numbers, in units of `scale`."""
        return jnp.exp(z) if self.of_counts else z

    @property
    def metric(self) -> str:
        """What is watched on the validation part, beside the loss."""
        return "rmse" if self.regression else "accuracy"

    def measure(self, z: jax.Array, y: jax.Array) -> jax.Array:
        """What the mean of is for `metric_of`, (m,) or (m, targets): whether the class is right, or squared errors.

        Of labels, the share of them that are right.
        """
        if self.regression:
            return (self.values(z) - y) ** 2
        if self.labels:
            return ((self.probabilities(z) >= LIKELY) == (y >= LIKELY)).astype(z.dtype).mean(axis=1)
        if self.loss != "softmax_cross_entropy_with_integer_labels":
            y = y[:, 0].astype(int) if self._one_probability else y.argmax(1)
        right = (self.probabilities(z).argmax(-1) == y).astype(z.dtype)
        return right.mean(-1) if self.positions else right

    def metric_of(self, measured: np.ndarray) -> float:
        """From the mean of `measure`: accuracy, or the RMSE over all targets in their own units."""
        if not self.regression:
            return float(measured)
        return float(np.sqrt((np.asarray(measured, np.float64) * self.scale**2).mean()))


def scaled_to(problem: Problem, y: np.ndarray, weights: np.ndarray | None = None) -> Problem:
    """The regression problem with its targets' mean and scale taken from the training part.

    An output that is bounded below at 0 keeps its 0 and is only scaled; one bounded on both sides is left as it is.
    Counts are divided by their mean, which is where the exponential of an output of 0 then is.

    Args:
      problem: what is learnt.
      y: values (m, targets).
      weights: as how many examples each of them counts, (m,); by default as one.
    """
    if not problem.regression:
        return problem
    mean = np.average(y, axis=0, weights=weights)
    if problem.of_counts:
        return problem._replace(mean=np.zeros_like(mean), scale=np.where(mean > 0, mean, 1.0))
    spread = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weights))
    scale = np.where((spread > 0) & (y.max(axis=0) > y.min(axis=0)), spread, 1.0)
    if problem.output_activation in OUTPUT_RANGES:
        mean = np.zeros_like(mean)
        if np.isfinite(OUTPUT_RANGES[problem.output_activation][1]):
            scale = np.ones_like(scale)
    return problem._replace(mean=mean, scale=scale)


def loss_of(problem: Problem) -> losses.Loss:
    """The problem's loss function, with the options that it has by default."""
    if problem.positions:
        return OF_POSITIONS
    loss = getattr(losses, problem.loss)
    return loss if isinstance(loss, losses.Loss) else loss()
