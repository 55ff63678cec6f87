"""The Hessian's diagonal, by hand: what the GGN leaves out arises where an activation is curved.

With z = f(x) and the Hessian H_z of the loss with respect to z, H_x = J^T H_z J + sum_k dz_k d2z_k/dx2. The first part
is columns sent back, as for the GGN: H_z = sum_v w_v S_v S_v^T becomes sum_v w_v (J^T S_v)(J^T S_v)^T. The second is
diagonal for an activation a = g(z): da * g''(z), whose j-th entry is a further column, the unit vector e_j, with
weight da_j g''(z_j) of either sign. So the list of weighted columns grows on its way back, at each curved activation
by its width; a dense layer is linear in x and in W and adds none. At each weight the diagonal is
(1/m) sum_n sum_v w_vn (S_vn^2) (a_n^2)^T.

The signal and its columns travel together, as one signal that adds. Where paths meet, columns that arose at the same
place are the same ones on two ways, and add up as the signals do; columns that arose at different places are
different terms of the sum over v, and stand beside one another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import require_examples
from jaxnet.bend import Bend, diagonal
from jaxnet.curvature.alone import Alone, values_of
from jaxnet.curvature.columns import AXIS, averaged
from jaxnet.factored import Factored, map_leaves
from jaxnet.layer import Layer, at_leaves
from jaxnet.losses import Loss
from jaxnet.weighting import rows_that_count


@partial(jax.tree_util.register_dataclass, data_fields=["dy", "S", "w"], meta_fields=["origins"])
@dataclass(frozen=True)
class Curved:
    """A signal, and columns whose sum_v w_v S_v S_v^T is each example's Hessian at its place of the network.

    Attributes:
      dy: the signal, (m, *f).
      S: for each origin its columns there, (v, m, *f).
      w: for each origin their weights, (v, m), which stay what they are on the way back.
      origins: where in the network columns arose: a mark for each place.
    """

    dy: Any
    S: tuple[Any, ...]
    w: tuple[Any, ...]
    origins: tuple[Any, ...]
    asked_by: ClassVar[str] = "curvature.hessian_diagonal"
    instead: ClassVar[str] = "ggn_diagonal"

    def __add__(self, other: "Curved") -> "Curved":
        S, w = dict(zip(self.origins, self.S, strict=True)), dict(zip(self.origins, self.w, strict=True))
        for origin, its_S, its_w in zip(other.origins, other.S, other.w, strict=True):
            S[origin] = S[origin] + its_S if origin in S else its_S
            w[origin] = its_w
        return Curved(self.dy + other.dy, tuple(S.values()), tuple(w.values()), tuple(S))


class Reading(NamedTuple):
    """What is read of weighted columns.

    Attributes:
      name: of the function that was called.
      instead: what goes where it does not.
      read: `(form, w (m,)) -> values`, of one column.
    """

    name: str
    instead: str
    read: Callable[[Factored, Array], Array]


def hessian_diagonal(
    net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any, weights: Float[Array, " m"] | None = None
) -> PyTree[Array]:
    """The diagonal of the Hessian of the mean loss, exactly.

    Args:
      net: any network of layers that have `second`, each of whose parameters is used once.
      loss, params: the loss and the parameters.
      x, y: m examples.
      weights: (m,), in place of 1/m for each example, as for `value_and_grad`: of either sign, and a zero leaves the
        example out, whatever x and y hold there.

    Returns:
      The structure and shapes of the parameters, of either sign. Cost: a batched backward pass of as many columns as
      the outputs and all curved activations behind the place have elements; for networks without any (ReLU) it is
      `ggn_diagonal`.

    Raises:
      ValueError: when traced, naming a layer that does not tell its second derivative; or if parameters are used
        twice, whose second derivative the paths between the uses have a share in.

    Source: DiagHessian in Dangel et al., BackPACK: Packing more into backprop, 2020; the recursion of whole matrices is
    Botev et al., Practical Gauss-Newton optimisation for deep learning, 2017, equation 8.

    Example:
      >>> diagonal = jn.curvature.hessian_diagonal(net, loss, params, x, y)
      >>> jax.tree.map(jnp.shape, diagonal[0])
      Dense(W=(4, 3), b=(4,))
    """
    name = "curvature.hessian_diagonal"
    x, y = rows_that_count(name, weights, x, y)

    def read(leaf, w):
        return averaged(leaf, weights, leaf.square_total(w if weights is None else w * weights, AXIS))

    return _read(name, "ggn_diagonal", read, net, loss, params, x, y)


def hessian_diagonal_per_example(net: Layer, loss: Loss, params: Any, x: PyTree[Array], y: Any) -> PyTree[Array]:
    """The diagonal of each example's own Hessian d2L_n/dparams2; their mean is `hessian_diagonal`.

    Args:
      net, loss, params, x, y: as for `hessian_diagonal`.

    Returns:
      The structure of the parameters; a leaf has their shape behind a leading axis of m examples, and that is its cost
      in memory.

    Raises:
      ValueError: as `hessian_diagonal`.

    Source: BatchDiagHessian in BackPACK.

    Example:
      >>> each = jn.curvature.hessian_diagonal_per_example(net, loss, params, x, y)
      >>> mean = jn.curvature.hessian_diagonal(net, loss, params, x, y)
      >>> bool(jnp.allclose(each[0].W.mean(0), mean[0].W, atol=1e-6))
      True
    """
    name, instead = "curvature.hessian_diagonal_per_example", "ggn_diagonal_per_example"
    return _read(name, instead, lambda leaf, w: leaf.squares(AXIS, w), net, loss, params, x, y)


def _read(name, instead, read, net, loss, params, x, y):
    require_examples(name, x)
    z, cache = net.forward(params, x)
    roots = loss.root_hessian(z, y)
    ones = jnp.ones_like(loss.forward(z, y))
    weights = jnp.ones((len(roots), 1), ones.dtype) * ones[None]
    signal = Curved(loss.backward(z, y), (roots,), (weights,), (object(),))
    reading = Reading(name, instead, read)
    of_params, _ = at_leaves(partial(curved, reading), net).backward(params, cache, signal)
    return values_of(of_params)


def curved(reading: Reading, layer: Layer) -> Layer:
    """The layer with a backward for `Curved` signals, which reads the Hessian's diagonal for its parameters."""

    def backward(params, cache, signal):
        if layer.second is None:
            raise ValueError(
                f"{reading.name}: {layer.name} does not tell its second derivative; "
                f"give it one with Layer(init, forward, backward, second), or use {reading.instead}"
            )
        dy, columns = _apart(signal)

        def send(column, weights):
            dparams, dx = layer.backward(params, cache, column)
            return map_leaves(lambda leaf: Alone(reading.read(leaf, weights), *reading[:2]), dparams), dx

        # All columns at once, whatever their origin: one batched backward pass.
        S, w = _joined([S for S, _ in columns.values()]), jnp.concatenate([w for _, w in columns.values()])
        of_params, S = jax.vmap(send, axis_name=AXIS, out_axes=(None, 0))(S, w)
        _, dx = layer.backward(params, cache, dy)
        return of_params, _together(dx, S, columns, layer.second(params, cache, dy))

    return layer._replace(backward=backward)


def _is_curved(part):
    return isinstance(part, Curved)


def _apart(signal):
    """(dy, {origin: (S, w)}) of the signal to one output, or of a pytree of them to several."""
    structure: Any = jax.tree.structure(signal, is_leaf=_is_curved)
    parts = structure.flatten_up_to(signal)
    weights = {origin: w for part in parts for origin, w in zip(part.origins, part.w, strict=True)}

    def columns_at(part, origin):
        if origin in part.origins:
            return part.S[part.origins.index(origin)]
        # What arose on the way of another output does not come to this one.
        return jnp.zeros((len(weights[origin]), *part.dy.shape), part.dy.dtype)

    columns = {
        origin: (structure.unflatten([columns_at(part, origin) for part in parts]), w) for origin, w in weights.items()
    }
    return structure.unflatten([part.dy for part in parts]), columns


def _together(dx, S, columns, bend):
    """The signal to one input, or a pytree of them to several: dx with the columns by origin, and those that arise."""
    structure: Any = jax.tree.structure(dx)
    parts, of_parts = structure.flatten_up_to(dx), structure.flatten_up_to(S)
    sizes = [len(w) for _, w in columns.values()]
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    signals = []
    for part, its_S, arising in zip(parts, of_parts, _arising(structure, bend), strict=True):
        its_columns = {
            origin: (its_S[start : start + size], w)
            for (origin, (_, w)), start, size in zip(columns.items(), starts, sizes, strict=True)
        }
        new_S, w = zip(*(its_columns | arising).values(), strict=True)
        signals.append(Curved(part, new_S, w, (*its_columns, *arising)))
    return structure.unflatten(signals)


def _arising(structure, bend):
    """For each part of the input the columns that arise there, by origin: one for all parts of a `Bend`."""
    if isinstance(bend, Bend):
        origin = object()
        return [{origin: (S, bend.w)} for S in structure.flatten_up_to(bend.S)]
    bends = [None] * structure.num_leaves if bend is None else structure.flatten_up_to(bend)
    return [{} if of_part is None else {object(): tuple(diagonal(of_part))} for of_part in bends]


def _joined(trees):
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
