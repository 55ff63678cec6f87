"""Classes, as scikit-learn has them."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.estimators.network_estimator import NUMBERS, NetworkEstimator


class Classifier(ClassifierMixin, NetworkEstimator):
    """A network for classes, trained as `jaxnet train` trains: sigmoid cross-entropy for two, softmax for more.

    ```python
    Classifier(hidden=(64,), epochs=30).fit(X, y).predict_proba(X_new)
    Classifier(lambda inputs, outputs: jn.chain(jn.dense(inputs, 64), jn.tanh, jn.dense(64, outputs)))
    ```

    Args:
      net: `(inputs, outputs) -> Layer`, the network; by default `jn.mlp` with `hidden` neurons and `activation`.
        There is one output for two classes. Only what is defined in a module can be pickled.
      hidden, activation, optimizer, learning_rate, weight_decay, batch_size, epochs, early_stopping, scale: as the
        options of `jaxnet train`. early_stopping is a number of epochs; 0: never.
      validation_fraction: of the examples, held out where there is early stopping, between 0 and 1.
      dtype: of parameters and arithmetic, "float32", "float64" or "bfloat16"; None: that of X, as scikit-learn has it.
        float32 takes half of the time, and is what `jaxnet train` takes by default.
      random_state: decides the split, the start and the order of the examples; an integer is the --seed of `jaxnet
        train`.

    Attributes:
      classes_: the labels, sorted.
      n_features_in_, feature_names_in_: of X.
      net_, params_, scaling_: the network, its parameters, and how features are scaled before it.
      n_iter_: epochs so far; loss_curve_: the mean loss of each.
      validation_loss_curve_, kept_epoch_: with early stopping; the epoch whose parameters are kept, from 1 on.

    Example:
      >>> model = jn.estimator.Classifier(hidden=(8,), epochs=20, random_state=0).fit(X, y)
      >>> model.predict_proba(X).shape, bool(model.score(X, y) > 0.8)
      ((150, 3), False)
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Classifier":
        """Trains from a fresh start.

        Args:
          X: numbers (m, features).
          y: labels (m,), numbers or texts.
          sample_weight: as how many examples each counts, (m,); whole numbers are as good as repeated rows where a
            batch holds all of them.

        Raises:
          ValueError: when an argument cannot be, or the loss is no longer finite.
        """
        X, y = validate_data(self, X, y, dtype=NUMBERS)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self._fit(X, self._numbers(y), self._posed(), sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "Classifier":
        """One epoch over these examples, on from where the network is. The first ones decide how features are scaled.

        Args:
          X, y, sample_weight: as for `fit`.
          classes: all labels there will ever be; the first call needs them.
        """
        first = not hasattr(self, "params_")
        X, y = validate_data(self, X, y, dtype=NUMBERS, reset=first)
        check_classification_targets(y)
        if first and classes is None:
            raise ValueError("Classifier: classes must be passed on the first call to partial_fit")
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"Classifier: classes are those of the first call to partial_fit, {self.classes_}; "
                f"got {np.unique(classes)}"
            )
        self._partial_fit(X, self._numbers(y), self._posed(), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each example, (m,)."""
        _, p = self._outputs(X)
        return self.classes_[p.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Every class's probability, (m, classes), in the order of `classes_`."""
        _, p = self._outputs(X)
        return p

    def decision_function(self, X: Any) -> np.ndarray:
        """The network's outputs: log odds (m,) of the second of two classes; else (m, classes)."""
        z, _ = self._outputs(X)
        return z[:, 0] if len(self.classes_) == 2 else z

    _of_targets: ClassVar[dict[str, Any]] = {}

    def _numbers(self, y):
        """Each label's place among the classes."""
        places = np.searchsorted(self.classes_, y)
        known = self.classes_[np.minimum(places, len(self.classes_) - 1)] == y
        if not known.all():
            raise ValueError(
                f"Classifier: y has the class {y[~known][:1].tolist()[0]!r}, expected those of {self.classes_}"
            )
        return places

    def _posed(self):
        if len(self.classes_) < 2:
            raise ValueError(
                f"Classifier: expected at least two classes, got only one class, {self.classes_[:1].tolist()[0]!r}"
            )
        two = len(self.classes_) == 2
        loss = "sigmoid_binary_cross_entropy" if two else "softmax_cross_entropy_with_integer_labels"
        kind = "two classes" if two else f"{len(self.classes_)} classes"
        return Problem(kind, ("y",), tuple(map(str, self.classes_)), loss, "identity", np.zeros(0), np.zeros(0))
