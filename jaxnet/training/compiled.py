"""A step of training as its user calls it: compiled, and with words for what a compiled program cannot tell."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.arguments import shown
from jaxnet.losses import Loss

USED = (
    "this state was used before, and its memory went to the state that came of it; go on with the one that was "
    "returned, as in state, metrics = step(state, x, y)"
)


class Labels:
    """Checks the values of y, which a compiled program cannot look at, by asking the loss outside of it.

    Attributes:
      noting: the loss, which notes of what shape the outputs are while the program is traced.
    """

    def __init__(self, loss: Loss, axes: int):
        """y has so many axes before those of one example's label."""
        self.loss, self.axes, self.outputs = loss, axes, dict[Any, Any]()
        self.noting = loss._replace(forward=self._forward)

    def check(self, y: Any, weights: Any = None) -> None:
        """Raises the loss's ValueError if it does not take the labels, but for those of weight 0."""
        # A y of arrays is one's own loss's, to be checked by it.
        if not hasattr(y, "shape") or not getattr(y, "is_fully_addressable", True):
            return
        label = y.shape[self.axes :]
        if label not in self.outputs:
            return
        labels = np.asarray(y).reshape(-1, *label)
        if weights is not None:
            labels = labels[np.asarray(weights).reshape(-1) != 0]
        output, dtype = self.outputs[label]
        outputs = jax.ShapeDtypeStruct((len(labels), *output), dtype)
        known = jnp.asarray(labels)
        jax.eval_shape(lambda z: self.loss.forward(z, known), outputs)

    def _forward(self, z, y):
        if hasattr(y, "shape"):
            self.outputs[y.shape[1:]] = z.shape[1:], z.dtype
        return self.loss.forward(z, y)


class Compiled:
    """A jit-compiled step `(state, x, y, ...) -> (state, metrics)` that takes its state's memory for the next one.

    The values of y are checked before the first call with each shape, where the program is compiled anyway. Later calls
    do not wait for them.
    """

    def __init__(self, where: str, step: Callable[..., Any], labels: Labels):
        self.jitted, self.where, self.labels = jax.jit(step, donate_argnums=0), where, labels
        self.shapes: set[Any] = set()
        functools.update_wrapper(self, step)

    def __call__(self, state: Any, x: Any, y: Any, *weights: Any, **named: Any) -> Any:
        if not hasattr(state, "step"):
            raise ValueError(
                f"{self.where}: expected a TrainState, as TrainState.create(params, optimizer) makes it, "
                f"got {shown(state)}"
            )
        if _was_consumed(state.step):
            raise ValueError(f"{self.where}: {USED}")
        try:
            shapes = getattr(x, "shape", None), getattr(y, "shape", None)
            if shapes not in self.shapes:
                self._check_labels(state, x, y, *weights, **named)
                self.shapes.add(shapes)
            return self.jitted(state, x, y, *weights, **named)
        except (RuntimeError, ValueError) as error:
            # To look at every array before would take longer than a small network's step. A program that fails of
            # itself has taken its state too, and says what failed.
            if "deleted" in str(error) and any(map(_was_consumed, jax.tree.leaves(state))):
                raise ValueError(f"{self.where}: {USED}") from error
            raise

    def __getattr__(self, name: str) -> Any:
        """What `jax.jit` gives a function, such as `lower`."""
        if name == "jitted":
            raise AttributeError(name)
        return getattr(self.jitted, name)

    def _check_labels(self, state, x, y, *weights, **named):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((state, x, y, weights, named))):
            return
        # The call after this one finds the trace, and traces nothing.
        self.jitted.trace(state, x, y, *weights, **named)
        self.labels.check(y, *weights, **named)


def _was_consumed(leaf):
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()
