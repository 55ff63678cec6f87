"""What is asked of layers over time when they are traced, and how they answer: all states, or the last alone."""

from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnet.arguments import positive_integer
from jaxnet.factored.layouts import rows_of
from jaxnet.layer import Decoder
from jaxnet.over_time import alive_in, apart, time_first, where_alive
from jaxnet.standardised import laid_out


def sizes_of(where: str, inputs: SupportsIndex, hidden: SupportsIndex) -> tuple[int, int]:
    """The numbers of features of x and of the state."""
    return positive_integer(where, "inputs", inputs), positive_integer(where, "hidden", hidden)


def gates(init: Callable[..., Array], key: jax.Array, count: int, shape: tuple[int, int]) -> Float[Array, "g i"]:
    """Weights of so many gates, one below the other, of which each starts by itself."""
    return jnp.concatenate([init(gate_key, shape) for gate_key in jax.random.split(key, count)])


def sequences(label: str, inputs: int, params: Any, x: Any) -> tuple[Any, Any, Any]:
    """(x, lengths, alive), x with 0 where an example has ended; refuses other shapes and types."""
    x, lengths = apart(x)
    if not hasattr(x, "shape") or x.ndim != 3 or x.shape[-1] != inputs:
        got = jnp.shape(x) if hasattr(x, "shape") else f"a {type(x).__name__}"
        raise ValueError(
            f"{label}: expected x of shape (m, t, {inputs}), or a tuple of x and whole lengths (m,), got {got}"
        )
    x = jnp.asarray(x)
    if x.dtype != params.W.dtype:
        raise ValueError(
            f"{label}: expected x of W's dtype {params.W.dtype}, got {x.dtype}; "
            f"convert it with x.astype('{params.W.dtype}')"
        )
    if lengths is not None and lengths.shape != x.shape[:1]:
        raise ValueError(f"{label}: expected a length for each of {x.shape[0]} examples, got {lengths.shape[0]}")
    alive = alive_in(x, lengths)
    return (x if alive is None else time_first(where_alive(alive, time_first(x)))), lengths, alive


def check_params(label: str, kind: Any, shapes: Any, params: Any) -> None:
    """Refuses another layer's parameters."""
    names = kind._fields
    if not isinstance(params, kind):
        raise ValueError(
            f"{label}: expected parameters {kind.__name__}({', '.join(names)}), got a {type(params).__name__}"
        )
    got = tuple(None if leaf is None else jnp.shape(leaf) for leaf in params)
    if got != tuple(shapes):
        expected, given = (
            ", ".join(f"{name} {of}" for name, of in zip(names, of_all, strict=True)) for of_all in (shapes, got)
        )
        raise ValueError(f"{label}: expected parameters {expected}, got {given}; they are another layer's")


def answer(states: Float[Array, "t m h"], end: Float[Array, "m h"], lengths: Any, last: bool) -> Any:
    """y: the last state, or all of them, with the lengths that came with x beside them."""
    if last:
        return end
    y = time_first(states)
    return y if lengths is None else (y, lengths)


def heard(label: str, states: Float[Array, "t m h"], dy: Any, alive: Any, last: bool) -> tuple[Any, Any]:
    """(what comes to the last state from behind it, what comes to each, the time first, or None)."""
    times, examples, size = states.shape
    if not last and alive is not None:
        dy, _ = dy
    expected = (examples, size) if last else (examples, times, size)
    if dy.shape != expected:
        raise ValueError(f"{label}: expected dy of shape {expected}, that of y, got {dy.shape}")
    dy = laid_out(dy, rows_of(dy, dy.ndim))
    if last:
        return dy, None
    return jnp.zeros_like(dy[:, 0]) if times else jnp.zeros((examples, size), dy.dtype), time_first(dy)


def of_input(dx: Any, alive: Any) -> Any:
    """The cotangent of x, with None beside it where lengths came with x."""
    return dx if alive is None else (dx, None)


def state_by_state(
    label: str, forward: Callable[..., Any], first: Callable[[Any], Any], last: Callable[[Any], Any]
) -> Decoder:
    """How a recurrence goes on, for ever: from its last state, that before any from x, the others from a cache."""

    def start(params, x):
        x, lengths = apart(x)
        if lengths is not None:
            raise ValueError(f"decoder: expected x without lengths, since it goes on, got lengths at {label}")
        return first(x)

    def step(params, state, x):
        y, cache = forward(params, x, start=state)
        return y, last(cache)

    return Decoder(start, step)
