"""The ways to a gradient that are measured: where in this folder each is, and what it is set beside."""

import importlib.util
from collections.abc import Sequence
from typing import Literal, NamedTuple

Peer = Literal["opacus", "jax-privacy"]


class Method(NamedTuple):
    """A way to the gradient of a batch, plain or clipped.

    Attributes:
      start: MODULE:FUNCTION, which makes of a problem what `worker` asks.
      base: the plain step of the same package; None for one that does not clip.
      package: as it is imported.
      against: by which name `--against` asks for it; None for those that always take part.
      counted: whether the compiler tells its memory, so that nothing has to be run for it.
    """

    start: str
    base: str | None = None
    package: str = "jax"
    against: Peer | None = None
    counted: bool = True

    def installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.package) is not None


OURS, OUR_PLAIN, PLAIN, TORCH = "jaxnet, clipped", "jaxnet, plain", "jax.grad, plain", "torch, plain"
_JAX, _TORCH = "benchmarks.clipping.by_jax", "benchmarks.clipping.by_torch"
METHODS = {
    OUR_PLAIN: Method(f"{_JAX}:plain"),
    OURS: Method(f"{_JAX}:clipped", OUR_PLAIN),
    "jaxnet, clipped, budget 0": Method(f"{_JAX}:unformed", OUR_PLAIN),
    PLAIN: Method(f"{_JAX}:automatic"),
    "vmap(jax.grad), clipped": Method(f"{_JAX}:mapped", PLAIN),
    "jax-privacy": Method(f"{_JAX}:jax_privacy", PLAIN, "jax_privacy", "jax-privacy"),
    TORCH: Method(f"{_TORCH}:Plain", None, "opacus", "opacus", counted=False),
    "Opacus, hooks": Method(f"{_TORCH}:Hooks", TORCH, "opacus", "opacus", counted=False),
    "Opacus, fast gradient clipping": Method(f"{_TORCH}:Fast", TORCH, "opacus", "opacus", counted=False),
    "Opacus, ghost clipping": Method(f"{_TORCH}:Ghost", TORCH, "opacus", "opacus", counted=False),
}


def asked(against: Sequence[str]) -> dict[str, Method]:
    """Those that take part, installed or not."""
    return {name: method for name, method in METHODS.items() if method.against is None or method.against in against}


def absent(methods: dict[str, Method]) -> list[str]:
    """Packages of theirs that are not installed, by the names that `--against` has."""
    return sorted({str(method.against) for method in methods.values() if not method.installed()})
