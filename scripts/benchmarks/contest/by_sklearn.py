"""scikit-learn's MLPClassifier, which knows one output for two classes, and tells an epoch's mean loss only."""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.contest.problems import Problem, logistic


def prepare(problem: Problem) -> Callable[[], list[float]]:
    """A warm-started fit to all batches in their order, for a pass as a rule of a single epoch."""
    problem = logistic(problem)
    net = problem.net
    x, y = problem.x.reshape(-1, net.sizes[0]), problem.y.reshape(-1).astype(int)
    epochs = net.steps // net.batches
    classifier = MLPClassifier(
        net.sizes[1:-1],
        net.activation,
        solver="sgd",
        learning_rate_init=net.learning_rate,
        momentum=0,
        alpha=0,
        batch_size=net.batch,
        shuffle=False,
        warm_start=True,
        max_iter=1,
        tol=0,
        n_iter_no_change=np.inf,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    # The first fit makes the attributes.
    classifier.fit(x, y)
    classifier.coefs_ = [np.ascontiguousarray(W.T) for W, _ in problem.params]
    classifier.intercepts_ = [b.copy() for _, b in problem.params]
    classifier.set_params(max_iter=epochs)
    return lambda: classifier.fit(x, y).loss_curve_[-epochs:]
