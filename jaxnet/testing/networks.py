"""A network with its loss: the gradients that training takes."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxnet import gradient, per_example
from jaxnet.layer import Layer
from jaxnet.losses import Loss
from jaxnet.testing.closeness import assert_close
from jaxnet.testing.contract import check_contract
from jaxnet.testing.noise import rounding_noise
from jaxnet.testing.points import as_numpy, float64, generator, moved_params
from jaxnet.testing.questions import TOLERANCE, check_rule
from jaxnet.testing.rule import NOISE_FACTOR, Rule
from jaxnet.testing.short_types import SHORT_TYPES, required_short_types


def check_network(
    net: Layer,
    loss: Loss,
    params: Any,
    x: Any,
    y: Any,
    *,
    tolerance: float = TOLERANCE,
    zero_gradients: bool = False,
    short_types: Sequence[str] = SHORT_TYPES,
) -> None:
    """Asserts that the gradients of a network's loss are those of `jax.grad`, by whichever door they are asked for.

    All that `check_vjp` asserts of the examples' losses, as functions of parameters and input: the parameters'
    gradients by `value_and_grad` reading a weighted total, the input's by `with_hand_derived_vjp` under `jax.vjp`; and
    `value_and_grad` of the mean loss. What `check_layer` asks of what forward and backward return is asked first.

    Args:
      net: any network.
      loss: any loss that suits it.
      params: its parameters; each is moved a little, so that zeros and ones are not special.
      x, y: inputs and targets of m examples.
      tolerance, zero_gradients, short_types: as for `check_vjp`.

    Raises:
      AssertionError: as `check_vjp` does.
      ValueError: for a short type of another name.

    Example:
      >>> net, loss = jn.dense(3, 1), jn.losses.half_squared_error
      >>> params, x, y = net.init(key), jax.random.normal(key, (4, 3)), jnp.ones((4, 1))
      >>> jn.testing.check_network(net, loss, params, x, y, short_types=())
    """
    value_and_grad, apply = gradient.value_and_grad(net, loss), gradient.with_hand_derived_vjp(net)
    # Weights that meet the examples in the reading, and not at the output, show examples that were mixed up.
    read = gradient.value_and_grad(net, loss, read=per_example.total)

    def losses(params, x, y):
        return loss.forward(net.apply(params, x), y)

    def pullback(params, x, y, dlosses):
        _, grads = read(params, x, y, dlosses)
        values, inside = jax.vjp(lambda x: loss.forward(apply(params, x), y), x)
        return values, (grads, *inside(dlosses))

    def means_by_hand(params, x, y):
        value, grads = value_and_grad(params, x, y)
        inside = jax.grad(lambda params: loss.forward(apply(params, x), y).mean())(params)
        return {"J": value, "grads": grads, "grads under jax.grad": inside}

    @jax.jit
    def means(params, x, y):
        value, grads = jax.value_and_grad(lambda params: losses(params, x, y).mean())(params)
        return means_by_hand(params, x, y), {"J": value, "grads": grads, "grads under jax.grad": grads}

    name = f"check_network: {net.name}"
    short_types = required_short_types("check_network", short_types)
    with jax.enable_x64(True):
        rng = generator(None)
        params, x, y = moved_params(params, rng), float64(x), float64(y)
        check_contract(name, net, jax.jit(net.apply), params, x)

        def noise():
            changes = rounding_noise(lambda at, _: means(*at, y)[1], as_numpy((params, x)), ())
            return jax.tree.map(lambda change: NOISE_FACTOR * change, changes)

        by_hand, expected = means(params, x, y)
        what = f"{name}, the mean loss, float64"
        assert_close(what, by_hand, expected, lambda _, __: tolerance, lengths=jax.tree.leaves(x)[0].shape, noise=noise)
        rule = Rule(name, jax.jit(losses), pullback, (params, x), ("dparams", "dx"), (y,))
        check_rule(rule, rng, tolerance=tolerance, zero_gradients=zero_gradients, short_types=short_types)
