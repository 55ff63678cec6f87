"""What the network's output costs, and what is sent back from it.

z is (m, ..., o) with the example first; a loss has one value for each example, summed over all other axes. Nothing
here carries the 1/m of a mean: that belongs to the reading. For every pair of a loss with the output unit that suits
it, the signal sent back is the same: dZ = A - Y.
"""

from jaxnet.losses.binary import binary_cross_entropy, sigmoid_binary_cross_entropy
from jaxnet.losses.loss import Loss
from jaxnet.losses.softmax import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels
from jaxnet.losses.squared import half_squared_error

__all__ = [
    "Loss",
    "binary_cross_entropy",
    "half_squared_error",
    "sigmoid_binary_cross_entropy",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]


def __dir__() -> list[str]:
    return __all__
