"""Through which weights the signal travels back: others than those that it went forward through.

The brain has no way to know a synapse's weight when it sends a signal the other way. What learns without? Each function
here makes a `backward` for `value_and_grad(net, loss, backward=...)`, or for use in place of `net.backward`: forward
and loss stay as they are, and so does what is read off.

Example:
  What the examples of its functions begin with, after `help(jaxnet)`.

  >>> net, loss = jn.mlp((3, 4, 2), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
  >>> params, x, y = net.init(key), jax.random.normal(key, (6, 3)), jnp.array([0, 0, 1, 0, 0, 0])
  >>> J, grads = jn.value_and_grad(net, loss)(params, x, y)
"""

from jaxnet.feedback.angles import angle
from jaxnet.feedback.from_output import direct, direct_weights
from jaxnet.feedback.other_weights import Backward, alignment, mirror, sign_symmetry

__all__ = ["Backward", "alignment", "angle", "direct", "direct_weights", "mirror", "sign_symmetry"]


def __dir__() -> list[str]:
    return __all__
