"""How networks are trained, for who trains by optax."""

from typing import Any

import jax
import optax

from benchmarks.contest.problems import Net
from benchmarks.contest.recipe import BETAS, CLIP, DECAY


def of(net: Net) -> optax.GradientTransformation:
    """`optax.sgd`; or `optax.adamw` of clipped gradients, where weights and tables decay."""
    if net.optimizer == "sgd":
        return optax.sgd(net.learning_rate)
    adamw = optax.adamw(net.learning_rate, *BETAS, weight_decay=DECAY, mask=_decay)
    return optax.chain(optax.clip_by_global_norm(CLIP), adamw)


def _decay(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
