"""How networks are trained, for who trains by optax."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from benchmarks.contest.problems import Net
from benchmarks.contest.recipe import BETAS, CLIP, DECAY


def decay(params: Any) -> Any:
    """What decays, weights and tables: all but biases and gains."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def of(net: Net, mask: Callable[[Any], Any] = decay) -> optax.GradientTransformation:
    """`optax.sgd`; or `optax.adamw` of clipped gradients, where what the mask says decays."""
    if net.optimizer == "sgd":
        return optax.sgd(net.learning_rate)
    adamw = optax.adamw(net.learning_rate, *BETAS, weight_decay=DECAY, mask=mask)
    return optax.chain(optax.clip_by_global_norm(CLIP), adamw)
