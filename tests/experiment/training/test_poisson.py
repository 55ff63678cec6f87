"""Batches of a private run on text: which windows they are made of, and how far one of these moves the sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxnet as jn
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.data.texts import Text
from jaxnet.experiment.data.tokens import BYTE_TOKENS
from jaxnet.experiment.data.windows import next_token, windows_of
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.training.budget import Budget
from jaxnet.experiment.training.poisson import PoissonBatches

pytestmark = pytest.mark.usefixtures("optax_promotion")
TOKENS, CONTEXT = BYTE_TOKENS._replace(texts=BYTE_TOKENS.texts[:7]), 5


def text_of(ids, on_disk=False):
    return Text("a", ids, TOKENS, on_disk, (), "")


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(0, 7, 240).astype(np.uint8)


@pytest.mark.parametrize("on_disk", [False, True], ids=["held", "on disk"])
def test_batches_hold_the_windows_that_were_drawn_and_no_token_twice(on_disk, ids):
    # Each token another, by its place.
    text = text_of(np.arange(240, dtype=np.uint8), on_disk)
    train = windows_of(text, CONTEXT, 12, None, disjoint=True).train
    # Of 216 tokens to learn from.
    assert train.examples == 36
    budget = Budget(1.0, 1e-3, 36, 12, 6, 1.0, 36)
    batches = PoissonBatches(budget, train, next_token(text), 12, "float32", make_layout(), jax.random.key(0))
    order = batches.order(0)
    ((x, y, weights),) = batches.pieces(order, [(0, 3)])
    for k in range(3):
        drawn, shown = order[k][order[k] >= 0], np.asarray(weights)[k] > 0
        seen = np.concatenate([np.asarray(x)[k], np.asarray(y)[k, :, -1:]], axis=1)[shown]
        assert 2 <= len(drawn) == len(set(drawn)) == shown.sum()
        np.testing.assert_array_equal(seen, 6 * drawn[:, None] + np.arange(6))
        np.testing.assert_array_equal(np.asarray(x)[k][shown][:, 1:], np.asarray(y)[k][shown][:, :-1])


def test_a_window_that_is_replaced_moves_the_sum_by_twice_c_and_one_left_out_by_c(ids):
    """Through a transformer: all tokens of the fourth window are others, and no other window sees it."""
    other = ids.copy()
    other[18:24] = (other[18:24] + 3) % 7
    (x, y), (x_other, y_other) = (
        [jnp.asarray(of_part[:]) for of_part in windows_of(text_of(of_one), CONTEXT, 12, None, disjoint=True).train[:2]]
        for of_one in (ids, other)
    )
    assert np.unique(np.nonzero((x != x_other) | (y != y_other))[0]).tolist() == [3]
    net = jn.transformer(7, width=4, heads=2, depth=1, length=CONTEXT, repeat=False)
    params, most, size = net.init(jax.random.key(1)), 0.3, 9.0
    read = jn.per_example.clipped(most, size, drop_not_finite=True)
    total = jax.jit(jn.value_and_grad(net, loss_of(next_token(text_of(ids))), read=read))
    present = jnp.where(jnp.arange(36) == 3, 0.0, 1.0)
    of_all, ours, others = jnp.ones(36), (x, y), (x_other, y_other)
    cases = ((*ours, of_all), (*others, of_all), (*ours, present), (*others, present))
    sums = [ravel_pytree(total(params, *batch)[1])[0] * size for batch in cases]
    whole, replaced, without, without_other = (np.asarray(of_one, np.float64) for of_one in sums)
    np.testing.assert_array_equal(without, without_other)
    # Sums of 36 gradients are rounded themselves.
    rounding = 1e-5
    for one in (whole, replaced):
        assert 0.99 * most < np.linalg.norm(one - without) <= most + rounding
    assert most < np.linalg.norm(whole - replaced) <= 2 * most + rounding
