"""Per-example gradients in factored form, and what can be read off them.

A layer's `backward` never multiplies dz by a. For each parameter it returns the two factors, from which the gradient
of every single example could be formed; a reading contracts them into what is wanted, without ever forming that.
The mean gradient is one reading: dW = (1/m) dZ^T A, where the lesson's only 1/m stands.

Axes: m examples (always the first), then positions, if any, then o outputs or i inputs.
"""

import abc
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree


class Factored(abc.ABC):
    """One parameter's per-example gradients: a leaf of the `dparams` that a backward pass returns."""

    @property
    @abc.abstractmethod
    def examples(self) -> Any:
        """The number of examples m: an integer, or a symbolic dimension where a function is exported for any m."""

    @abc.abstractmethod
    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        """sum_i weights_i g_i over the examples' gradients g_i, in the parameter's shape; None stands for ones."""

    @abc.abstractmethod
    def add(self, other: "Factored") -> "Factored":
        """The per-example gradients of a parameter that is used twice: those of both uses, added."""


@partial(jax.tree_util.register_dataclass, data_fields=["dz", "a"], meta_fields=["sharding"])
@dataclass(frozen=True)
class Outer(Factored):
    """The gradient of a weight matrix: that of example i is the sum over positions t of dz[i, t] a[i, t]^T, (o, i).

    Attributes:
      dz: (m, ..., o), what came back to the outputs.
      a: (m, ..., i), what went forward into the inputs.
      sharding: how the weight is laid out over devices, `jax.typeof(W).sharding`, which its gradient then is as well;
        None leaves that to JAX. A mesh with explicit axes needs it: there, dz^T a over a sharded batch is ambiguous.
    """

    dz: Float[Array, "m *t o"]
    a: Float[Array, "m *t i"]
    sharding: jax.sharding.Sharding | None = None

    @property
    def examples(self) -> Any:
        return self.dz.shape[0]

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "o i"]:
        self._check()
        dz = self.dz if weights is None else self.dz * _along_examples(weights, self.dz)
        summed = tuple(range(dz.ndim - 1))
        return lax.dot_general(dz, self.a, ((summed, summed), ((), ())), out_sharding=self.sharding)

    def add(self, other: Factored) -> "Outer":
        if not isinstance(other, Outer):
            raise ValueError(f"Outer.add: expected another Outer, got {type(other).__name__}")
        self._check()
        other._check()
        # Each use is a further position: the sum over positions adds them.
        dz = jnp.concatenate([_positions_flat(self.dz), _positions_flat(other.dz)], axis=1)
        a = jnp.concatenate([_positions_flat(self.a), _positions_flat(other.a)], axis=1)
        return Outer(dz, a, self.sharding)

    def _check(self):
        if self.dz.ndim < 2 or self.dz.shape[:-1] != self.a.shape[:-1]:
            raise ValueError(
                "Outer: expected dz (m, ..., o) and a (m, ..., i) with the same examples and positions, "
                f"got {self.dz.shape} and {self.a.shape}"
            )


@partial(jax.tree_util.register_dataclass, data_fields=["g"], meta_fields=["ndim"])
@dataclass(frozen=True)
class Each(Factored):
    """The gradient of any other parameter, as it is: that of example i is g[i], summed over positions.

    Attributes:
      g: (m, ..., *shape of the parameter); the axes between are positions.
      ndim: how many axes the parameter has: 1 for a bias or a gain, 0 for a scalar.
    """

    g: Float[Array, "m ..."]
    ndim: int = field(default=1)

    @property
    def examples(self) -> Any:
        return self.g.shape[0]

    def total(self, weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
        self._check()
        g = self.g if weights is None else self.g * _along_examples(weights, self.g)
        return g.sum(axis=tuple(range(g.ndim - self.ndim)))

    def add(self, other: Factored) -> "Each":
        if not isinstance(other, Each):
            raise ValueError(f"Each.add: expected another Each, got {type(other).__name__}")
        self._check()
        other._check()
        return Each(self._without_positions() + other._without_positions(), self.ndim)

    def _without_positions(self):
        return self.g.sum(axis=tuple(range(1, self.g.ndim - self.ndim)))

    def _check(self):
        if self.g.ndim < 1 + self.ndim:
            raise ValueError(
                f"Each: expected g (m, ..., *parameter) for a parameter with {self.ndim} axes, got shape "
                f"{self.g.shape}; ndim says how many axes the parameter has"
            )


def total(dparams: PyTree[Any], weights: Float[Array, " m"] | None = None) -> PyTree[Array]:
    """The weighted sum of the examples' gradients: sum_i weights_i g_i.

    Args:
      dparams: what a layer's `backward` returned, factored per-example gradients at its leaves.
      weights: (m,), a weight for each example; None for ones. Zero leaves an example out.

    Returns:
      Gradients with the structure and shapes of the parameters.

    Raises:
      ValueError: when the weights are not one for each example.

    Source: the lesson, S9: dW = (1/m) dZ^T A is the total with weights 1/m.
    """

    def read(leaf):
        if weights is not None and weights.shape != (leaf.examples,):
            raise ValueError(
                f"per_example.total: expected weights of shape ({leaf.examples},), one for each example, "
                f"got {weights.shape}"
            )
        return leaf.total(weights)

    return _map(read, dparams)


def mean(dparams: PyTree[Any]) -> PyTree[Array]:
    """The gradient of the mean loss: (1/m) sum_i g_i; dW = (1/m) dZ^T A and db = (1/m) sum_i dz_i for `dense`.

    Args:
      dparams: what a layer's `backward` returned, factored per-example gradients at its leaves.

    Returns:
      Gradients with the structure and shapes of the parameters, equal to `jax.grad` of the mean loss.

    Raises:
      ValueError: when there is no example to average over.

    Source: the lesson, S9.
    """

    def read(leaf):
        if leaf.examples == 0:
            raise ValueError("per_example.mean: expected at least one example, got an empty batch")
        return leaf.total(None) / leaf.examples

    return _map(read, dparams)


def add(dparams: PyTree[Any], other: PyTree[Any]) -> PyTree[Any]:
    """The factored gradients of parameters used twice, from those of each use.

    Args:
      dparams, other: what `backward` returned at the first and at the second use of the same parameters.

    Returns:
      Factored gradients whose every reading is that of g_i + g'_i; outer products gain positions, none is formed.
    """
    return _map(lambda leaf, more: leaf.add(more), dparams, other)


def _map(read, dparams, *others):
    return jax.tree.map(read, dparams, *others, is_leaf=lambda leaf: isinstance(leaf, Factored))


def _along_examples(weights, signal):
    return jnp.expand_dims(weights.astype(signal.dtype), tuple(range(1, signal.ndim)))


def _positions_flat(signal):
    return signal.reshape(signal.shape[0], -1, signal.shape[-1])
