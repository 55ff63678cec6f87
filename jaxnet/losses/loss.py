"""What a loss is: four functions of the network's outputs and the targets."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
from jaxtyping import Array, Float, Real

from jaxnet.description import InstanceDoc, call_of
from jaxnet.losses.refused import Refused

Outputs = Float[Array, "m *f"]
Targets = Real[Array, "..."]


class Loss(NamedTuple):
    """Four pure functions: the loss, its derivative by hand, a root of its curvature, and its predictive distribution.

    A loss that is not convex has no root, and one that is no log-likelihood no samples: there stands a
    `jaxnet.losses.Refused`, which says so when it is called, as it does where they are left out.

    Printed, a loss shows its name, and `help` tells the equations.

    Attributes:
      forward: `(z, y) -> (m,)`, each example's loss.
      backward: `(z, y) -> dz`, the derivative of each example's loss, of z's shape, without 1/m.
      root_hessian: `(z, y) -> S (v, *z.shape)` with sum_v S_v S_v^T the second derivative of each example's loss.
      sample: `(key, z) -> y`, targets drawn from the distribution whose negative log-likelihood the loss is.
      given: `(drawn, y) -> y`, what was drawn with what is given of y and not drawn, such as which positions count;
        None where all of y is drawn.
    """

    forward: Callable[[Outputs, Any], Float[Array, " m"]]
    backward: Callable[[Outputs, Any], Outputs]
    root_hessian: Callable[[Outputs, Any], Float[Array, "v m *f"]] = Refused(
        "this loss was made without a root_hessian; give jaxnet.Loss one, or use curvature.empirical"
    )
    sample: Callable[[jax.Array, Outputs], Any] = Refused(
        "this loss was made without a sample; give jaxnet.Loss one, or use curvature.exact or curvature.empirical"
    )
    given: Callable[[Any, Any], Any] | None = None

    def __call__(self, z: Outputs, y: Any) -> Float[Array, " m"]:
        """`loss(z, y)` is `loss.forward(z, y)`. Give `jax.jit` the latter: it takes no tuple for a function."""
        return self.forward(z, y)

    def __repr__(self) -> str:
        return call_of(self.forward)


Loss.__doc__ = cast(Any, InstanceDoc(Loss.__doc__))
