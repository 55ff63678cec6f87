"""Learning rates, step by step, against their equations."""

import numpy as np
import pytest

from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training.rates import make_told_rate, rate_by_step, require_updates, warmup_steps
from jaxnet.experiment.training.recipe import recipe_of

pytestmark = pytest.mark.usefixtures("optax_promotion")
PEAK, FINAL, BATCHES = 0.4, 0.1, 5


def recipe(**options):
    return recipe_of(TrainConfig(**{"learning_rate": PEAK, "epochs": 4, **options}))


@pytest.mark.parametrize(("options", "rising"), [
    ({"schedule": "cosine"}, 0),
    ({"schedule": "warmup-cosine", "warmup": "3"}, 3),
    ({"schedule": "warmup-cosine", "warmup": "2epochs"}, 10),
    ({"schedule": "warmup-cosine"}, 1),
    ({"schedule": "warmup-cosine", "warmup": "2epochs", "accumulate": 3}, 3),
    ({"schedule": "warmup-cosine", "warmup": "3", "decay_epochs": 4, "epochs": 6}, 3),
])  # fmt: skip
def test_the_rate_rises_in_equal_steps_from_the_first_update_on_falls_by_half_a_cosine_and_stays(options, rising):
    of = recipe(**options, final_learning_rate=FINAL)
    told, end = make_told_rate(of, BATCHES), 20 // of.accumulate
    assert warmup_steps(of, BATCHES) == rising
    for k in range(30):
        expected = FINAL + (PEAK - FINAL) * (1 + np.cos(np.pi * min((k - rising) / (end - rising), 1))) / 2
        expected = PEAK * (k + 1) / (rising + 1) if k < rising else expected
        # Told to six digits; computed in float32.
        assert told((k + 1) * of.accumulate) == pytest.approx(expected, rel=5e-6), k


def test_a_constant_rate_is_a_number_and_kfacs_own_is_none():
    assert rate_by_step(recipe(), BATCHES) == PEAK
    assert rate_by_step(recipe(learning_rate=None, optimizer="sgd"), BATCHES) == 0.1
    assert make_told_rate(recipe(learning_rate=None, optimizer="kfac"), BATCHES)(7) is None


@pytest.mark.parametrize(("options", "message"), [
    ({"warmup": "4epochs"}, "--warmup 4epochs: comes to 20 updates, and the rate is at its end after 20"),
    ({"warmup": "21"}, "--warmup 21: comes to 21 updates, and the rate is at its end after 20"),
])  # fmt: skip
def test_a_rate_that_never_falls_is_refused(options, message):
    with pytest.raises(BadInput) as error:
        require_updates(recipe(schedule="warmup-cosine", **options), BATCHES)
    assert str(error.value) == f"{message}, with 5 batches in an epoch; warm up for less, or train for more --epochs"
    require_updates(recipe(schedule="warmup-cosine", warmup="19"), BATCHES)


def test_too_few_batches_for_an_update_are_refused():
    with pytest.raises(BadInput) as error:
        require_updates(recipe(accumulate=21), BATCHES)
    assert str(error.value) == (
        "--accumulate 21: there are 20 batches, 5 in an epoch, and so no update; accumulate fewer"
    )
    require_updates(recipe(accumulate=20), BATCHES)
