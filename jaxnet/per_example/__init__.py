"""What can be read off a backward pass: the mean gradient, and what every single example's gradient tells.

`backward` returns per-example gradients in factored form, `dparams`; g_i stands for that of example i, all parameters
together. A reading contracts the factors; only `each` forms the gradients. Readings of the same `dparams` under one
`jax.jit` share the forward and the backward pass.

With m examples and P parameters the gradient takes about 6 m P operations. Where a reading's cost is given it comes on
top, for weights without positions; T positions make it T times as much, T^2 where they are paired (see `Outer`). So
with positions gradients are formed before they are read where that is cheaper (see `formed`).

Example:
  What the examples of its functions begin with, after `help(jaxnet)`.

  >>> net, loss = jn.mlp((3, 4, 2), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
  >>> params, x, y = net.init(key), jax.random.normal(key, (6, 3)), jnp.array([0, 0, 1, 0, 0, 0])
  >>> z, cache = net.forward(params, x)
  >>> dparams, dx = net.backward(params, cache, loss.backward(z, y))
"""

from jaxnet.clipping import clipped, clipped_mean
from jaxnet.factored import Each, Factored, Outer, Reading, Rows, Sum, Windows, formed
from jaxnet.per_example.bounds import even_norms
from jaxnet.per_example.lengths import norms, squared_norms, squared_norms_by_leaf
from jaxnet.per_example.moments import noise_scale, second_moment, signal_to_noise, variance
from jaxnet.per_example.products import dot, gram
from jaxnet.per_example.totals import add, each, mean, total

__all__ = [
    "Each",
    "Factored",
    "Outer",
    "Reading",
    "Rows",
    "Sum",
    "Windows",
    "add",
    "clipped",
    "clipped_mean",
    "dot",
    "each",
    "even_norms",
    "formed",
    "gram",
    "mean",
    "noise_scale",
    "norms",
    "second_moment",
    "signal_to_noise",
    "squared_norms",
    "squared_norms_by_leaf",
    "total",
    "variance",
]


def __dir__() -> list[str]:
    return __all__
