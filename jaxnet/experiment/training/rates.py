"""The learning rate, step by step: optax's schedules over the updates of a run."""

from collections.abc import Callable

import jax
import optax

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.optimizer_options import read_warmup
from jaxnet.experiment.training.recipe import Recipe

RATES = {"sgd": 0.1, "momentum": 0.01, "nesterov": 0.01, "adagrad": 0.01, "lion": 3e-4}
USUAL_RATE = 1e-3
# Of all steps, where nothing else is asked for.
WARMUP = 0.05


def learning_rate(recipe: Recipe) -> float | None:
    """The one that was asked for, or what suits the optimizer; None where that chooses for itself.

    Of a schedule it is the largest.
    """
    if recipe.learning_rate is not None or recipe.optimizer == "kfac":
        return recipe.learning_rate
    return RATES.get(recipe.optimizer, USUAL_RATE)


def last_step(recipe: Recipe, batches: int) -> int:
    """After how many updates the rate is where it ends, of so many batches in an epoch."""
    return (recipe.decay_epochs or recipe.epochs) * batches // recipe.accumulate


def warmup_steps(recipe: Recipe, batches: int) -> int:
    """For how many updates the rate rises, of so many batches in an epoch."""
    if recipe.schedule != "warmup-cosine":
        return 0
    if recipe.warmup is None:
        return max(1, round(WARMUP * last_step(recipe, batches)))
    count, unit = read_warmup(recipe.warmup)
    return count * batches // recipe.accumulate if unit == "epochs" else count


def require_updates(recipe: Recipe, batches: int) -> None:
    """Refuses a rate that rises for so long that there is no update left in which it falls, and too few for one.

    Raises:
      BadInput: saying so.
    """
    seen = min(recipe.epochs, recipe.decay_epochs or recipe.epochs) * batches
    if recipe.accumulate > seen:
        raise BadInput(
            f"--accumulate {recipe.accumulate}: there are {seen} batches, {batches} in an epoch, and so no update; "
            "accumulate fewer"
        )
    rising, steps = warmup_steps(recipe, batches), last_step(recipe, batches)
    if recipe.schedule == "constant":
        return
    if rising >= steps:
        asked = "--warmup" if recipe.warmup is None else f"--warmup {recipe.warmup}"
        raise BadInput(
            f"{asked}: comes to {rising} updates, and the rate is at its end after {steps}, with {batches} batches in "
            "an epoch; warm up for less, or train for more --epochs"
        )


def rate_by_step(recipe: Recipe, batches: int) -> float | optax.Schedule | None:
    """What an optimizer takes for its learning rate.

    With peak rate r, final rate f, w steps of warmup and the end at step n, update k = 0, 1, ... goes by

        r (k + 1) / (w + 1) for k < w,  f + (r - f) (1 + cos(pi (k - w) / (n - w))) / 2 from there to n,  f beyond.

    Args:
      recipe: the options.
      batches: in an epoch.
    """
    peak = learning_rate(recipe)
    if recipe.schedule == "constant" or peak is None:
        return peak
    steps, final = last_step(recipe, batches), recipe.final_learning_rate
    if recipe.schedule == "cosine":
        return optax.cosine_decay_schedule(peak, steps, alpha=final / peak)
    rising = warmup_steps(recipe, batches)
    # The first update has a rate too.
    return optax.warmup_cosine_decay_schedule(peak / (rising + 1), peak, rising, steps, final)


def make_told_rate(recipe: Recipe, batches: int) -> Callable[[int], float | None]:
    """(batches seen) -> the rate of the last update, to six digits; None where the optimizer has its own."""
    rate = rate_by_step(recipe, batches)
    if not callable(rate):
        return lambda seen: rate
    compiled = jax.jit(rate)
    return lambda seen: float(f"{float(compiled(max(0, seen // recipe.accumulate - 1))):.6g}")
