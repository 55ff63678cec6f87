"""Networks as scikit-learn's estimators: `Classifier` and `Regressor`.

They keep scikit-learn's contract, as its own `check_estimator` asks for it, and train as `jaxnet train` does. The core
needs no scikit-learn; it is imported here.

Example:
  What the examples below begin with, after `help(jaxnet)`.

  >>> from sklearn.datasets import load_iris
  >>> X, y = load_iris(return_X_y=True)
"""

from jaxnet.experiment.console import packages

if not packages.is_there("sklearn"):
    raise ModuleNotFoundError(f"jaxnet.estimator: {packages.missing('sklearn')}", name="sklearn")

from jaxnet.experiment.estimators.classifier import Classifier
from jaxnet.experiment.estimators.regressor import Regressor

__all__ = ["Classifier", "Regressor"]
