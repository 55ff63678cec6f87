"""What the network's output costs, and what is sent back from it.

z is (m, ..., o) with the example first; a loss has one value for each example, summed over all other axes. Nothing
here carries the 1/m of a mean: that belongs to the reading. For every pair of a loss with the output unit that suits
it, the signal sent back is the same: dZ = A - Y.

Positions are summed; `masked` and `cross_entropy` leave some of them out, or take the mean. What a loss does not have,
as one that is no log-likelihood has no `sample`, is refused by its name.

Example:
  What the examples of its functions begin with, after `help(jaxnet)`.

  >>> z = jnp.array([[2.0, 0.0], [0.0, 1.0]])
"""

from jaxnet.losses.binary import binary_cross_entropy, sigmoid_binary_cross_entropy
from jaxnet.losses.cross_entropy import cross_entropy
from jaxnet.losses.focal import sigmoid_focal_loss
from jaxnet.losses.huber import huber_loss
from jaxnet.losses.loss import Loss
from jaxnet.losses.masked import masked
from jaxnet.losses.poisson import poisson_nll_loss
from jaxnet.losses.refused import Refused
from jaxnet.losses.softmax import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxnet.losses.squared import half_squared_error

__all__ = [
    "Loss",
    "Refused",
    "binary_cross_entropy",
    "cross_entropy",
    "half_squared_error",
    "huber_loss",
    "masked",
    "poisson_nll_loss",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]


def __dir__() -> list[str]:
    return __all__
