"""What changes while a network is trained, and what an optimizer has to be to change it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from jaxnet.arguments import shown


class TrainState(NamedTuple):
    """All that changes while a network is trained.

    Attributes:
      params: the network's parameters.
      opt_state: the optax optimizer's state.
      key: the source of the shuffles, and of what layers draw; it does not change, epochs and steps fold their numbers
        into it.
      epoch: how many epochs `make_epoch` has done.
      step: how many updates were made.

    Example:
      >>> net, optimizer = jn.mlp((3, 4, 1)), optax.sgd(0.1)
      >>> state = jn.TrainState.create(net.init(key), optimizer)
      >>> int(state.epoch), int(state.step)
      (0, 0)
    """

    params: Any
    opt_state: Any
    key: Key[Array, ""]
    epoch: Int[Array, ""]
    step: Int[Array, ""]

    @classmethod
    def create(
        cls, params: Any, optimizer: optax.GradientTransformation, key: Key[Array, ""] | None = None
    ) -> "TrainState":
        """A fresh state. It holds copies, since a step gives its state's memory to the next.

        Args:
          params: as `net.init(key)` returns them.
          optimizer: the optax optimizer that the step is made with.
          key: decides the order of examples in each epoch, and what layers draw; `jax.random.key(0)` by default.

        Raises:
          ValueError: when an argument is something else.
        """
        check_optimizer("TrainState.create", optimizer)
        if any(callable(leaf) for leaf in jax.tree.leaves(params)):
            raise ValueError(f"TrainState.create: expected params as net.init(key) returns them, got {shown(params)}")
        if key is not None and not hasattr(key, "dtype"):
            raise ValueError(f"TrainState.create: expected key to be one such as jax.random.key(0), got {shown(key)}")
        key = jax.random.key(0) if key is None else key
        zero = jnp.zeros((), jnp.int32)
        state = cls(params, optimizer.init(params), key, epoch=zero, step=zero)
        return jax.tree.map(_strong_copy, state)


def check_optimizer(where: str, optimizer: Any) -> None:
    """Refuses what is no optimizer."""
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        raise ValueError(
            f"{where}: expected optimizer to be one of optax's, such as optax.adam(1e-3), got {shown(optimizer)}"
        )


def check_state(where: str, optimizer: optax.GradientTransformation, state: TrainState) -> None:
    """Refuses a state that was made by another optimizer, or for other parameters."""
    expected = jax.eval_shape(optimizer.init, state.params)
    if _shapes(expected) != _shapes(state.opt_state):
        raise ValueError(
            f"{where}: the state is that of another optimizer, or of other parameters; make it by "
            "TrainState.create(params, optimizer), with the optimizer that is given here"
        )


def _strong_copy(leaf):
    # A weakly typed leaf, such as one made from a Python number, would come back strong and compile the step again.
    return jnp.array(leaf, dtype=jnp.asarray(leaf).dtype, copy=True)


def _shapes(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]
