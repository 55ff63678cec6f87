"""Several readings of one backward pass, each under a name."""

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float, PyTree

from jaxnet.arguments import shown

# (dparams) -> value, or (dparams, weights) -> value.
Metric: TypeAlias = Callable[..., PyTree[Any]]


def check_metrics(where: str, metrics: Any) -> None:
    """Refuses what are no readings by name."""
    expected = f'{where}: expected metrics to be readings by name, such as {{"norms": jaxnet.per_example.norms}}, got '
    if not isinstance(metrics, dict):
        raise ValueError(expected + shown(metrics))
    for name, reading in metrics.items():
        if not isinstance(name, str):
            raise ValueError(f"{expected}the name {shown(name)}")
        if not callable(reading):
            raise ValueError(f"{expected}{shown(reading)} for {name!r}")


def read_metrics(
    metrics: dict[str, Metric], dparams: PyTree[Any], weights: Float[Array, " m"] | None
) -> dict[str, PyTree[Any]]:
    """The value of each reading; those that take weights are given them.

    Raises:
      ValueError: when there are weights, and a reading does not take them: it would read examples of weight 0 too.
    """
    return {name: _value_of(name, reading, dparams, weights) for name, reading in metrics.items()}


def _value_of(name, reading, dparams, weights):
    if "weights" in inspect.signature(reading).parameters:
        return reading(dparams, weights=weights)
    if weights is None:
        return reading(dparams)
    raise ValueError(
        f"metrics[{name!r}]: expected a reading (dparams, weights) -> value, since examples are weighted here, by 0 "
        f"where one only fills up its batch, got {shown(reading)}; let it take weights, or batch_size divide the "
        "examples"
    )
