"""Parameters split over the devices for examples: the same numbers, and a part of the memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives import objective_of
from trees import assert_trees_equal

import jaxnet as jn
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.devices.gathering import gathering, placed
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.training.cost import cost_of
from jaxnet.parameters import sides_of

pytestmark = pytest.mark.usefixtures("optax_promotion")
PROBLEM = Problem("regression", ("y",), (), "half_squared_error", "identity", np.zeros(1), np.ones(1))
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels


def spread(array):
    (shape,) = {shard.data.shape for shard in array.addressable_shards}
    return shape


def on_mesh(net, x, mesh="data=4,model=2"):
    """`read -> value_and_grad` of the network that gathers, its parameters between steps, their places, and x."""
    layout = make_layout(mesh, shard_state=True)
    params = net.init(jax.random.key(0))
    sides = sides_of(net, params, x)
    used = layout.of_params(net, params, sides, x)
    places = layout.between_steps(params, sides, used)

    def of_reading(loss, read=None):
        return placed(partial(jn.value_and_grad, read=read), used, places, gathering(net), loss)

    return of_reading, jax.device_put(params, places), places, jax.device_put(x, layout.places("data"))


NETS = {
    "transformer": (lambda: jn.transformer(16, width=8, heads=2, depth=2, length=4), (8, 4), 16),
    "tied transformer": (lambda: jn.transformer(16, width=8, heads=2, depth=1, length=4, tied=True), (8, 4), 16),
    "cnn": (lambda: jn.cnn((4, 4, 2), 8, channels=(8,)), (8, 4, 4, 2), None),
    "repeated": (lambda: jn.repeat(jn.recompute(jn.chain(jn.dense(8, 8), jn.tanh)), 4), (8, 8), None),
}


@pytest.mark.parametrize("name", NETS)
def test_gradients_and_clipped_ones_are_those_of_one_device(name, x64):
    make, shape, ids = NETS[name]
    net, draws = make(), np.random.default_rng(0)
    x = jnp.asarray(draws.integers(ids, size=shape) if ids else draws.normal(size=shape))
    y = jnp.asarray(draws.integers(8, size=shape if ids else shape[:1]))
    of_reading, params, places, of_devices = on_mesh(net, x)
    for read in (None, jn.per_example.clipped(0.1)):
        expected = jax.jit(jn.value_and_grad(net, LOSS, read=read))(net.init(jax.random.key(0)), x, y)
        step = jax.jit(of_reading(LOSS, read), out_shardings=(None, places))
        value, grads = step(params, of_devices, y)
        assert_trees_equal(jax.device_get((value, grads)), jax.device_get(expected))


def test_what_is_split_is_a_weights_longest_side_never_a_stack():
    net = jn.chain(jn.dense(8, 16), jn.repeat(jn.chain(jn.dense(16, 16), jn.layer_norm(16)), 24), jn.dense(16, 3))
    _, params, _, _ = on_mesh(net, jnp.zeros((8, 8)), "data=8")
    first, (repeated, norm), last = params
    assert (spread(first.W), spread(first.b)) == ((2, 8), (2,))
    assert (spread(repeated.W), spread(norm.gain)) == ((24, 2, 16), (24, 2))
    # 3 outputs do not divide.
    assert (spread(last.W), spread(last.b)) == ((3, 2), (3,))


def test_a_step_takes_an_eighth_of_the_state_on_each_of_eight_devices():
    config = TrainConfig(hidden=(64, 64), optimizer="adamw", mesh="data=8")
    layout = make_layout(config.mesh, shard_state=True)
    objective = objective_of(config, PROBLEM, 64, 8, layout)
    state = sum(leaf.nbytes for leaf in jax.tree.leaves((objective.state.params, objective.state.opt_state)))
    batch = [jax.device_put(np.zeros((1, 8, n), np.float32), layout.places(None, "data")) for n in (64, 1)]
    held = objective.steps.lower(objective.state, *batch).compile().memory_analysis().argument_size_in_bytes
    # The last bias (1,), counts and keys are whole; and an example is there.
    assert state / 8 < held < state / 8 + 1000
    told = cost_of(objective.steps, objective.state, *batch)
    assert (state / 8 < told.state < state / 8 + 500, told.devices) == (True, 8)
    after, _ = objective.steps(objective.state, *batch)
    assert spread(after.params[2].W) == (8, 64)
    assert {spread(leaf) for leaf in jax.tree.leaves(after.opt_state) if leaf.shape == (64, 64)} == {(8, 64)}


def test_repeated_layers_are_gathered_a_round_at_a_time():
    net, x = jn.repeat(jn.chain(jn.dense(64, 64), jn.tanh), 16), jnp.zeros((8, 64))
    of_reading, params, places, x = on_mesh(net, x, "data=8")
    step = jax.jit(of_reading(jn.losses.half_squared_error), out_shardings=(None, places))
    memory = step.lower(params, x, x).compile().memory_analysis()
    # An eighth of parameters and gradients, and of the 16 rounds some two: forward's and backward's.
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert memory.argument_size_in_bytes + memory.output_size_in_bytes < 2 * whole / 8 + 1000
    assert memory.temp_size_in_bytes < whole / 2


def test_one_device_for_examples_splits_nothing():
    with pytest.raises(BadInput) as error:
        make_layout("model=2", shard_state=True)
    assert str(error.value) == (
        "--shard-state: splits over the devices for examples, of which there is one; add --mesh data=2"
    )
