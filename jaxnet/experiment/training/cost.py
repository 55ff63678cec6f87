"""What a step of training costs, as the compiler counts it for the program that training runs."""

from typing import Any, NamedTuple

import jax


class Cost(NamedTuple):
    """Of one step, on one device.

    Attributes:
      operations: floating-point ones, as XLA counts them; None where it does not.
      state: bytes of parameters and optimizer.
      temporary: bytes that the program needs besides what it is given; None where the compiler does not tell.
      devices: how many share the step.
    """

    operations: float | None
    state: int
    temporary: int | None
    devices: int


def cost_of(steps: Any, state: Any, *batches: Any) -> Cost:
    """The cost of a jitted scan over batches, whose body counts once: of a step.

    The call with these arguments that follows finds the program compiled.

    Args:
      steps: jitted.
      state, batches: its arguments, of which none is taken over.
    """
    compiled = steps.lower(state, *batches).compile()
    memory, counted = compiled.memory_analysis(), compiled.cost_analysis() or {}
    leaves = jax.tree.leaves((state.params, state.opt_state))
    held = sum(shard.data.nbytes for leaf in leaves for shard in leaf.addressable_shards[:1])
    devices = len(leaves[0].sharding.device_set)
    return Cost(counted.get("flops"), held, getattr(memory, "temp_size_in_bytes", None), devices)
