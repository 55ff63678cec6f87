"""What a classifier and a regressor have in common: a network that is fitted as `jaxnet train` fits it."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxnet.arguments import instance_of
from jaxnet.experiment.data.problem import Problem, scaled_to
from jaxnet.experiment.data.scaling import FARTHEST, scaling_of, weighted_scaling_of
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.estimators.examples import Batches, in_blocks, weights_of
from jaxnet.experiment.estimators.options import config_of
from jaxnet.experiment.estimators.program import Program, program_of
from jaxnet.experiment.networks.choices import ACTIVATIONS
from jaxnet.experiment.training import rates
from jaxnet.experiment.training.objective import keys_of
from jaxnet.experiment.training.recipe import recipe_of
from jaxnet.layer import Layer
from jaxnet.networks import mlp

NUMBERS = (np.float64, np.float32)


class NetworkEstimator(BaseEstimator):
    """The parameters of both, and what they do alike."""

    def __init__(
        self,
        net=None,
        *,
        hidden=(256,),
        activation="relu",
        optimizer="adamw",
        learning_rate=None,
        weight_decay=None,
        batch_size=32,
        epochs=100,
        early_stopping=0,
        validation_fraction=0.1,
        scale="standard",
        dtype=None,
        random_state=None,
    ):
        self.net = net
        self.hidden = hidden
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.scale = scale
        self.dtype = dtype
        self.random_state = random_state

    def gradient_norms(self, X: Any, y: Any) -> np.ndarray:
        """How long the gradient of each example's loss is, (m,): the longest are rare, hard, or labelled wrongly.

        Args:
          X, y: examples with their targets, as for `fit`.
        """
        check_is_fitted(self)
        X, y = validate_data(self, X, y, dtype=NUMBERS, reset=False, **self._of_targets)
        targets = self._problem.encode(self._numbers(y), self._recipe.parameters_dtype)
        return self._in_blocks(self._program().norms, self.params_, self._inputs(X), targets)

    def _fit(self, x: np.ndarray, y: np.ndarray, problem: Problem, sample_weight: Any) -> None:
        """Anew. Targets are numbers of classes (m,), or values (m, targets)."""
        x, y, weights = weights_of(sample_weight, x, y)
        recipe = recipe_of(config_of(self, x))
        if not recipe.early_stopping:
            self._begin(x, y, weights, problem, recipe)
            self._train(x, y, weights, recipe.epochs)
            return
        train, held_out = self._split(y, problem, recipe.seed)
        of_train, of_held_out = (weights if weights is None else weights[rows] for rows in (train, held_out))
        self._begin(x[train], y[train], of_train, problem, recipe)
        self._train(x[train], y[train], of_train, recipe.epochs, (x[held_out], y[held_out], of_held_out))

    def _partial_fit(self, x: np.ndarray, y: np.ndarray, problem: Problem, sample_weight: Any) -> None:
        """One more epoch; features and targets are scaled by the examples of the first."""
        x, y, weights = weights_of(sample_weight, x, y)
        if not hasattr(self, "params_"):
            self._begin(x, y, weights, problem, recipe_of(config_of(self, x)))
        self._train(x, y, weights, 1)

    def _split(self, y, problem, seed):
        """The rows of the training and of the validation part, as `jaxnet train` draws them."""
        fraction = self.validation_fraction
        if not (isinstance(fraction, float) and 0 < fraction < 1):
            name = type(self).__name__
            raise ValueError(f"{name}: validation_fraction: expected a number between 0 and 1, got {fraction!r}")
        count = max(round(fraction * len(y)), 1)
        return train_test_split(
            np.arange(len(y)), test_size=count, stratify=y if problem.classes else None, random_state=seed
        )

    def _begin(self, x, y, weights, problem, recipe):
        """Everything that stays, and the state at the first step."""
        if weights is None:
            self.scaling_ = scaling_of(InMemory(x), np.arange(len(x)), self.scale, image=False)
        else:
            self.scaling_ = weighted_scaling_of(x, weights, self.scale)
        self._problem, self._recipe = scaled_to(problem, y, weights), recipe
        self.net_ = self._network(x.shape[1], problem.outputs)
        self.loss_curve_: list[float] = []
        with jax.enable_x64(recipe.dtype == "float64"):
            start, order_key, *_ = keys_of(np.uint32(recipe.seed))
            self._state = _at_rest(self._program().start(start, order_key))

    def _network(self, inputs, outputs):
        name = type(self).__name__
        if self.net is None:
            return mlp((inputs, *self.hidden, outputs), ACTIVATIONS[self.activation])
        if (tuple(self.hidden), self.activation) != ((256,), "relu"):
            raise ValueError(f"{name}: hidden and activation are of the network without net; let net decide on them")
        net = self.net(inputs, outputs)
        instance_of(Layer, name, "net(inputs, outputs) to be a Layer", net, "jaxnet.mlp((inputs, 64, outputs))")
        return net

    def _train(self, x, y, weights, epochs, held_out=None):
        """Goes on from the state, epoch by epoch, and keeps the best parameters if examples are held out to tell."""
        recipe, problem = self._recipe, self._problem
        with jax.enable_x64(recipe.dtype == "float64"):
            _, order_key, *_ = keys_of(np.uint32(recipe.seed))
            targets = problem.encode(y, recipe.parameters_dtype)
            batches = Batches(self._inputs(x), targets, weights, recipe.batch_size, order_key)
            program = self._program(batches.batch)
            judge = None if held_out is None else self._judge(program, *held_out)
            state = jax.tree.map(jnp.array, self._state)._replace(key=order_key)
            validation, best = [], state.params
            for _ in range(epochs):
                state, losses = batches.epoch(program.epoch, state)
                self._require_finite(losses, int(state.epoch))
                self.loss_curve_.append(batches.mean(losses))
                if judge is None:
                    continue
                validation.append(judge(state.params))
                if validation[-1] < min(validation[:-1], default=np.inf):
                    best = jax.tree.map(np.array, state.params)
                if len(validation) - 1 - int(np.argmin(validation)) >= recipe.early_stopping:
                    break
            self._state = _at_rest(state)
        self.n_iter_ = int(self._state.epoch)
        if judge is not None:
            self._state = self._state._replace(params=best)
            self._judged(validation)
        self._require_finite(np.concatenate(jax.tree.map(np.ravel, jax.tree.leaves(self._state.params))), self.n_iter_)
        self.params_ = self._state.params

    def _judge(self, program, x, y, weights):
        """params -> the mean loss of the examples that are held out."""
        x, y = self._inputs(x), self._problem.encode(y, self._recipe.parameters_dtype)
        return lambda params: float(np.average(in_blocks(program.losses, params, x, y), weights=weights))

    def _judged(self, validation):
        self.validation_loss_curve_, self.kept_epoch_ = validation, int(np.argmin(validation)) + 1
        if self.kept_epoch_ == self.epochs:
            warnings.warn(
                f"{type(self).__name__}: the validation loss was lowest after the last epoch, so that early stopping "
                f"did not find an end; give more epochs than {self.epochs}",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _require_finite(self, values, epoch):
        if not np.isfinite(values).all():
            rate = rates.learning_rate(self._recipe)
            lower = "give a learning_rate" if rate is None else f"lower learning_rate ({rate:g})"
            raise ValueError(
                f"{type(self).__name__}: the loss is no longer finite in epoch {epoch}; {lower} or look for extreme "
                "values in the data"
            )

    def _inputs(self, x):
        """Scaled, of the type that the network computes in."""
        x = self.scaling_(x.astype(np.float64, copy=False))
        if np.abs(x).max() > FARTHEST:
            raise ValueError(
                f"{type(self).__name__}: expected numbers up to {FARTHEST:g}, since scale='none' leaves them alone"
            )
        return x.astype(self._recipe.parameters_dtype)

    def _outputs(self, X):
        """z and every class's probability, or z twice, of new examples."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=NUMBERS, reset=False)
        return self._in_blocks(self._program().outputs, self.params_, self._inputs(X))

    def _in_blocks(self, program, *arguments):
        with jax.enable_x64(self._recipe.dtype == "float64"):
            return in_blocks(program, *arguments)

    def _program(self, batch: int = 1) -> Program:
        return program_of(self.net_, self.n_features_in_, self._problem, self._recipe, batch)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "params_")


def _at_rest(state):
    """In memory that no step takes over, without the key, which cannot be pickled."""
    return jax.tree.map(np.array, state._replace(key=None))
