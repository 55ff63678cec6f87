"""The backward pass as a function that other programs call: in place of `jax.value_and_grad`, or under `jax.grad`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet import per_example
from jaxnet.arguments import accepts, count_examples, instance_of, shown
from jaxnet.layer import Layer, at_leaves, bind, draws
from jaxnet.losses import Loss
from jaxnet.metrics import Metric, check_metrics, read_metrics
from jaxnet.weighting import check_weights, mean_loss, weighted, with_rows_that_count


def totalled(layer: Layer) -> Layer:
    """The layer with a backward that gives (the total gradient, dx): each total is read where it arises.

    A repeated layer's scan then hands on n gradients, and not the factors of n times m; in a chain the compiler does
    the same by itself.
    """

    def backward(params, cache, dy):
        dparams, dx = layer.backward(params, cache, dy)
        return per_example.total(dparams), dx

    return layer._replace(backward=backward)


def totalled_throughout(net: Layer) -> Layer:
    """The network with every layer `totalled` that is made of no others.

    A layer that adds up uses of its parameters, as `recurrent` does over times, is totalled as a whole: one product for
    all uses in place of one for each.
    """
    if net.made is not None and not getattr(net.made.func, "adds_uses", False):
        return net.made.func(*map(totalled_throughout, net.made.args), **net.made.keywords)
    changed = totalled(net)
    return changed._replace(keyed=lambda key: totalled_throughout(bind(net, key))) if draws(net) else changed


def value_and_grad(
    net: Layer,
    loss: Loss,
    *,
    backward: Callable[[Any, Any, Array], tuple[Any, Array]] | None = None,
    read: Callable[[Any, Float[Array, " m"] | None], Any] | None = None,
    metrics: dict[str, Metric] | None = None,
) -> Callable[..., tuple[Any, Any]]:
    """The mean loss and its gradient, by one forward and one hand-derived backward pass.

    J = (1/m) sum_i L(z_i, y_i) with z = net(x), or sum_i w_i L(z_i, y_i) when weights are given.

    Args:
      net: any layer or network.
      loss: what is minimised.
      backward: through which weights the signal travels, `net.backward` by default; see `jaxnet.feedback`. Linear in
        the signal, as that is.
      read: what is read off, `(dparams, weights) -> grads`; the mean gradient by default; see `per_example.clipped`. A
        `per_example.Reading` also changes the network's leaves, where there is no `backward`.
      metrics: what else is read off the same pass, by name: `{"noise scale": per_example.noise_scale}`. A reading is
        `(dparams) -> value`, or `(dparams, weights) -> value` with the weights or None; where weights are given it must
        take them, since it would count examples of weight 0. A value is any pytree of arrays. For readings, the factors
        of all parameters are kept until the end of the pass; without metrics and `read`, each layer's gradient is
        formed where it arises, which in `repeat` takes n gradients in place of the factors of n times m.

    Returns:
      `(params, x, y, weights=None) -> (J, grads)`, a drop-in for `jax.value_and_grad` of the mean loss. J is a scalar,
      grads has the structure of params. `weights (m,)` takes the place of 1/m for each example, of either sign; a zero
      leaves the example out, such as one that only fills up a batch, whatever x and y hold there. Of an empty batch,
      for which a `read` may have an answer, J is 0. With metrics it returns `((J, values), grads)`, as
      `jax.value_and_grad` does with `has_aux`, the values under the metrics' names.

    Raises:
      ValueError: when an argument is something else; when called, if x, y and weights differ in the number of examples,
        or there is none and no `read`, or weights are given and a metric does not take them.

    Source: the lesson (docs/lesson.md), S8 and S9.

    Example:
      >>> net, loss = jn.mlp((3, 4, 1)), jn.losses.half_squared_error
      >>> params, x, y = net.init(key), jnp.ones((5, 3)), jnp.zeros((5, 1))
      >>> J, grads = jn.value_and_grad(net, loss)(params, x, y)
      >>> by_autodiff = jax.grad(lambda params: loss(net(params, x), y).mean())(params)
      >>> bool(jnp.allclose(grads[0].W, by_autodiff[0].W))
      True
      >>> (J, more), grads = jn.value_and_grad(net, loss, metrics={"norms": jn.per_example.norms})(params, x, y)
      >>> more["norms"].shape
      (5,)
    """
    instance_of(Layer, "value_and_grad", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")
    instance_of(Loss, "value_and_grad", "loss to be a Loss", loss, "jaxnet.losses.half_squared_error")
    if read is not None and not callable(read):
        raise ValueError(
            "value_and_grad: expected read to be one reading (dparams, weights) -> grads, such as "
            f"jaxnet.per_example.clipped(1.0), got {shown(read)}; further readings of the same pass are metrics"
        )
    if read is not None and not accepts(read, "dparams", "weights"):
        raise ValueError(
            "value_and_grad: expected read to be one reading (dparams, weights) -> grads, such as "
            f"jaxnet.per_example.clipped(1.0), got {shown(read)}, which does not take these two; a metric may take "
            "dparams alone"
        )
    if metrics is not None:
        check_metrics("value_and_grad", metrics)
    read_net = at_leaves(read.leaf, net) if isinstance(read, per_example.Reading) else net

    def hand_derived(params, x, y, weights=None):
        # A reading may know what to say of an empty batch.
        examples = count_examples("value_and_grad", x, y, least=1 if read is None else 0)
        if weights is not None:
            check_weights("value_and_grad", weights, (examples,))
            x, y = with_rows_that_count(weights, (x, y))
        z, cache = net.forward(params, x)
        losses, dz = loss.forward(z, y), loss.backward(z, y)
        if jnp.shape(losses) != (examples,):
            raise ValueError(
                f"{loss!r}: expected forward to give a number for each example, (m,), here ({examples},), "
                f"got shape {jnp.shape(losses)}"
            )
        value = mean_loss(losses, weights)
        if read is None and metrics is None:
            # Backward is linear in the signal, so the mean's weights may go in at the output, where they meet m f
            # numbers; in the reading they would meet all the parameters' gradients.
            dz = jax.tree.map(lambda dz: dz / dz.shape[0] if weights is None else weighted(weights, dz), dz)
            if backward is None:
                return value, totalled_throughout(net).backward(params, cache, dz)[0]
        dparams, _ = (backward or read_net.backward)(params, cache, dz)
        if metrics is None:
            return value, per_example.total(dparams) if read is None else read(dparams, weights)
        grads = _mean_gradient(dparams, weights) if read is None else read(dparams, weights)
        return (value, read_metrics(metrics, dparams, weights)), grads

    return hand_derived


def with_hand_derived_vjp(net: Layer) -> Callable[[Any, Array], Array]:
    """The network as a function whose `jax.grad`, anywhere in a program, runs our backward pass.

    Args:
      net: any layer or network.

    Returns:
      `(params, x) -> y`, equal to `net.apply`, with the hand-derived rule attached by `jax.custom_vjp`. It takes
      batches, as `net.apply` does: pass a single example as `x[None]`, under `jax.vmap` too. Integers in x have no
      cotangent, as for `jax.grad`. Reverse mode only, like every custom_vjp: where forward mode is needed, use
      `net.apply`.

    Example:
      >>> net = jn.mlp((3, 4, 1))
      >>> params, x = net.init(key), jnp.ones((5, 3))
      >>> f = jn.with_hand_derived_vjp(net)
      >>> grads = jax.grad(lambda params: (f(params, x) ** 2).sum())(params)
      >>> jax.tree.map(jnp.shape, grads)
      (Dense(W=(4, 3), b=(4,)), (), Dense(W=(1, 4), b=(1,)))
    """
    instance_of(Layer, "with_hand_derived_vjp", "net to be a Layer", net, "jaxnet.mlp((3, 4, 1))")

    @jax.custom_vjp
    def hand_derived(params, x):
        return net.apply(params, x)

    def forward(params, x):
        y, cache = net.forward(params, x)
        return y, (params, cache)

    def backward(saved, dy):
        params, cache = saved
        return totalled_throughout(net).backward(params, cache, dy)

    hand_derived.defvjp(forward, backward)
    return hand_derived


def _mean_gradient(dparams, weights):
    """The gradient of J, from gradients that were not weighted at the output."""
    return per_example.mean(dparams) if weights is None else per_example.total(dparams, weights)
