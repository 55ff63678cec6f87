"""Through which weights the signal travels back: others than those that it went forward through.

The brain has no way to know a synapse's weight when it sends a signal the other way. What learns without? Each function
here makes a `backward` for `value_and_grad(net, loss, backward=...)`, or for use in place of `net.backward`: forward
and loss stay as they are, and so does what is read off.
"""

from jaxnet.feedback.angles import angle
from jaxnet.feedback.from_output import direct, direct_weights
from jaxnet.feedback.other_weights import Backward, alignment, mirror, sign_symmetry

__all__ = ["Backward", "alignment", "angle", "direct", "direct_weights", "mirror", "sign_symmetry"]


def __dir__() -> list[str]:
    return __all__
