"""Any optax optimizer can be given to `make_step`: each update gets the keywords that it takes."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import jaxnet as jn

pytestmark = pytest.mark.usefixtures("optax_promotion")
NET, LOSS = jn.mlp((3, 4, 2), jn.tanh), jn.losses.softmax_cross_entropy_with_integer_labels
ADVERSARY = optax.chain(contrib.normalize(), optax.sgd(0.05))


# What takes others, what has a test of its own, what is deprecated.
NONE = ("chain", "dpsgd", "optimistic_adam")


def optimizers_of(module):
    """What a module makes of a learning rate alone, or of nothing."""
    for name, make in sorted(vars(module).items()):
        if not inspect.isfunction(make) or name.startswith(("_", "scale_by_")) or name in NONE:
            continue
        signature = inspect.signature(make)
        needed = {
            one.name
            for one in signature.parameters.values()
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        }
        if "GradientTransformation" in str(signature.return_annotation) and needed <= {"learning_rate"}:
            key = {"key": jax.random.key(0)} if "key" in signature.parameters else {}
            yield name, partial(make, **dict.fromkeys(needed, 0.01), **key)


OPTIMIZERS = {f"{module.__name__}.{name}": made for module in (optax, contrib) for name, made in optimizers_of(module)}
WRAPPED = {
    "sam": contrib.sam(optax.sgd(0.1), ADVERSARY),
    "sam, opaque": contrib.sam(optax.sgd(0.1), ADVERSARY, opaque_mode=True),
    "sophia behind clipping": optax.chain(optax.clip(1.0), contrib.sophia(0.01)),
    "line search": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10)),
    "reduce_on_plateau": optax.chain(optax.adam(0.01), contrib.reduce_on_plateau()),
    "mechanize": contrib.mechanize(optax.adam(0.01)),
    "schedule_free": contrib.schedule_free(optax.sgd(0.01), 0.01),
    "MultiSteps": optax.MultiSteps(optax.adam(0.01), 3).gradient_transformation(),
    "apply_if_finite": optax.apply_if_finite(contrib.sophia(0.01), 3),
}


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(2026), 3)
    return NET.init(keys[0]), jax.random.normal(keys[1], (8, 3)), jax.random.randint(keys[2], (8,), 0, 2)


def test_the_list_of_optimizers_is_that_of_optax():
    names = {
        "optax.adam",
        "optax.lbfgs",
        "optax.polyak_sgd",
        "optax.lion",
        "optax.contrib.sophia",
        "optax.contrib.muon",
    }
    assert names <= OPTIMIZERS.keys()
    assert len(OPTIMIZERS) > 50


@pytest.mark.parametrize("name", [*OPTIMIZERS, *WRAPPED])
def test_a_step_takes_every_optimizer_and_gives_back_a_state_of_its_kind(name, problem):
    """Traced, and not compiled: whether the keywords fit shows there."""
    params, x, y = problem
    optimizer = WRAPPED[name] if name in WRAPPED else OPTIMIZERS[name]()
    state = jax.eval_shape(partial(jn.TrainState.create, optimizer=optimizer), params)
    for make in (jn.make_step, jn.make_epoch):
        after, metrics = jax.eval_shape(make(NET, LOSS, optimizer), state, x, y)
        assert metrics["loss"].shape == ()
        assert jax.tree.structure(after) == jax.tree.structure(state)


def mean_loss(params, x, y):
    return LOSS.forward(NET.apply(params, x), y).mean()


def test_sam_steps_by_the_gradient_at_the_worst_point_nearby(x64, problem):
    params, x, y = jax.tree.map(lambda leaf: leaf.astype(float if leaf.dtype == jnp.float32 else int), problem)
    optimizer = WRAPPED["sam, opaque"]
    state, _ = jn.make_step(NET, LOSS, optimizer)(jn.TrainState.create(params, optimizer), x, y)
    g = jax.grad(mean_loss)(params, x, y)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(g)))
    worst = jax.tree.map(lambda p, g: p + 0.05 * g / norm, params, g)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(mean_loss)(worst, x, y))
    # A dozen operations at 1.1e-16.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), state.params, expected)


def test_sophia_sees_the_hessian_of_the_loss(x64, problem):
    params, x, y = jax.tree.map(lambda leaf: leaf.astype(float if leaf.dtype == jnp.float32 else int), problem)
    optimizer = contrib.hutchinson_estimator_diag_hessian(jax.random.key(1))
    expected, _ = optimizer.update(params, optimizer.init(params), params, obj_fn=lambda p: mean_loss(p, x, y))
    step = jn.make_step(NET, LOSS, optimizer)
    state, _ = step(jn.TrainState.create(params, optimizer), x, y)
    # The 'update' is the estimate; rounding at 1.1e-16 in some ten operations.
    moved = jax.tree.map(jnp.subtract, state.params, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), moved, expected)


def test_optaxs_private_sgd_gets_each_examples_gradient_by_the_reading_of_that_name(x64, problem):
    params, x, y = jax.tree.map(lambda leaf: leaf.astype(float if leaf.dtype == jnp.float32 else int), problem)
    optimizer = optax.chain(contrib.differentially_private_aggregate(0.2, 0.0, jax.random.key(0)), optax.sgd(0.1))
    each = partial(jn.value_and_grad, read=lambda dparams, weights: jn.per_example.each(dparams))
    state, _ = jn.make_step(NET, LOSS, optimizer, value_and_grad=each)(jn.TrainState.create(params, optimizer), x, y)
    clipped = jax.jit(jn.value_and_grad(NET, LOSS, read=jn.per_example.clipped(0.2)))(params, x, y)[1]
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, clipped)
    # Sums of 8 terms in another order, at 1.1e-16 each.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), state.params, expected)


def test_an_optimizer_that_refuses_keywords_inside_another_is_named(problem):
    params, x, y = problem
    optimizer = optax.chain(optax.clip(1.0), WRAPPED["sam"])
    with pytest.raises(ValueError) as error:
        jn.make_step(NET, LOSS, optimizer)(jn.TrainState.create(params, optimizer), x, y)
    assert str(error.value).splitlines()[0] == (
        "make_step: sam.<locals>.transparent_update_fn() got an unexpected keyword argument 'value': an optimizer "
        "inside another is given what that takes; make it the outermost, with the others inside"
    )
