"""Numbers, as scikit-learn has them."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.estimators.network_estimator import NUMBERS, NetworkEstimator


class Regressor(RegressorMixin, NetworkEstimator):
    """A network for numbers, one or several, trained as `jaxnet train` trains: by half the squared error.

    Targets are scaled to mean 0 and standard deviation 1 for training, and back by `predict`.

    Args:
      net, hidden, activation, optimizer, learning_rate, weight_decay, batch_size, epochs, early_stopping,
      validation_fraction, scale, dtype, random_state: as for `Classifier`.

    Attributes:
      n_features_in_, feature_names_in_, net_, params_, scaling_, n_iter_, loss_curve_, validation_loss_curve_,
      kept_epoch_: as for `Classifier`.

    Example:
      >>> model = jn.estimator.Regressor(hidden=(8,), epochs=20, random_state=0).fit(X[:, :2], X[:, 2])
      >>> model.predict(X[:, :2]).shape
      (150,)
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Regressor":
        """Trains from a fresh start.

        Args:
          X: numbers (m, features).
          y: numbers (m,), or (m, targets).
          sample_weight: as how many examples each counts, (m,).

        Raises:
          ValueError: when an argument cannot be, or the loss is no longer finite.
        """
        X, y = validate_data(self, X, y, dtype=NUMBERS, **self._of_targets)
        self._fit(X, self._numbers(y), self._posed(y), sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Regressor":
        """One epoch over these examples, on from where the network is. The first ones decide on the scales.

        Args:
          X, y, sample_weight: as for `fit`.
        """
        first = not hasattr(self, "params_")
        X, y = validate_data(self, X, y, dtype=NUMBERS, reset=first, **self._of_targets)
        self._partial_fit(X, self._numbers(y), self._posed(y), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values in the targets' own units, (m,) or (m, targets), as y was."""
        z, _ = self._outputs(X)
        values = self._problem.predict(z)
        return values[:, 0] if self._in_a_row else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    _of_targets: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    def _numbers(self, y):
        """Values (m, targets)."""
        return y.reshape(len(y), -1).astype(np.float64)

    def _posed(self, y):
        self._in_a_row, targets = y.ndim == 1, self._numbers(y).shape[1]
        kind = "regression" if targets == 1 else f"regression with {targets} outputs"
        names = tuple(f"y{k}" for k in range(targets))
        return Problem(kind, names, (), "half_squared_error", "identity", np.zeros(targets), np.ones(targets))
