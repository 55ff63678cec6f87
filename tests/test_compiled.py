"""What a step, an epoch or many steps refuse before they run, each in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet as jn

pytestmark = pytest.mark.usefixtures("without_shape_annotations", "optax_promotion")
NET, LOSS, OPTIMIZER = jn.mlp((3, 4, 2), jn.tanh), jn.losses.softmax_cross_entropy, optax.sgd(0.1, momentum=0.9)
X, Y = np.ones((6, 3), np.float32), np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 0]]
WHERE = ["make_step", "make_epoch", "make_steps"]
everywhere = pytest.mark.parametrize("where", WHERE)


def fresh(net=NET, optimizer=OPTIMIZER):
    return jn.TrainState.create(net.init(jax.random.key(0)), optimizer)


def made(where, loss=LOSS, net=NET):
    """The step, and the batch with the axes that it takes."""
    step = getattr(jn, where)(net, loss, OPTIMIZER)
    if where != "make_steps":
        return step
    return lambda state, x, y, *weights: step(state, x[None], y[None], *weights)


def message_of(call, *arguments):
    with pytest.raises(ValueError) as error:
        call(*arguments)
    return str(error.value).splitlines()[0]


@everywhere
def test_a_state_used_twice_is_named_and_so_is_a_part_of_one(where, capfd):
    step, state = made(where), fresh()
    expected = (
        f"{where}: this state was used before, and its memory went to the state that came of it; go on with the one "
        "that was returned, as in state, metrics = step(state, x, y)"
    )
    after, _ = step(state, X, Y)
    assert message_of(step, state, X, Y) == expected
    # The program, which would tell it on stderr too, has not started.
    assert capfd.readouterr().err == ""
    assert message_of(step, after._replace(params=state.params), X, Y) == expected
    # Nor is the state lost by a call that was refused.
    step(after, X, Y)


def test_a_program_that_fails_of_itself_says_what_failed():
    """It has taken its state's memory by then, as if the state had been used before."""

    def fail(x):
        raise ValueError("failed of itself")

    def forward(params, x):
        return jax.pure_callback(fail, jax.ShapeDtypeStruct(x.shape, x.dtype), x), ()

    failing = jn.Layer(lambda key: (), forward, lambda params, cache, dy: (params, dy))
    net = jn.chain(NET, failing)
    with pytest.raises(jax.errors.JaxRuntimeError, match="failed of itself"):
        jax.block_until_ready(made("make_step", net=net)(fresh(net), X, Y))


@everywhere
def test_what_is_no_state_or_another_optimizers_or_other_parameters_is_named(where):
    step = made(where)
    expected = f"{where}: expected a TrainState, as TrainState.create(params, optimizer) makes it, got "
    assert message_of(step, fresh().params, X, Y) == expected + "a tuple"
    assert message_of(step, NET, X, Y) == expected + "the layer chain(dense(3, 4), tanh, dense(4, 2))"
    expected = (
        f"{where}: the state is that of another optimizer, or of other parameters; make it by "
        "TrainState.create(params, optimizer), with the optimizer that is given here"
    )
    for other in (optax.sgd(0.1), optax.adam(0.1), optax.chain(OPTIMIZER)):
        assert message_of(step, fresh(optimizer=other), X, Y) == expected
    wider = fresh(jn.mlp((3, 5, 2), jn.tanh))
    assert message_of(step, fresh()._replace(opt_state=wider.opt_state), X, Y) == expected
    assert message_of(step, wider, X, Y) == (
        "dense(3, 4): expected parameters W (4, 3) and b (4,), got W (5, 3) and b (5,); they are another layer's"
    )


def test_empty_batches_and_single_examples_are_refused_alike():
    params = fresh().params
    calls = {where: lambda x, y, where=where: made(where)(fresh(), x, y) for where in WHERE[:2]}
    calls["value_and_grad"] = lambda x, y: jn.value_and_grad(NET, LOSS)(params, x, y)
    for where, call in calls.items():
        same = f"{where}: expected x and y to have the same number of examples, at least 1, got shapes "
        single = "; pass a single example as x[None] and y[None]"
        assert message_of(call, X, Y[:5]) == same + "(6, 3) and (5, 2)"
        assert message_of(call, X[0], Y[0]) == same + "(3,) and (2,)" + single
        assert message_of(call, X[0], Y[0, 0]) == same + "(3,) and ()" + single
        assert message_of(call, X[0, 0], Y[0, 0]) == same + "() and ()" + single
        named = "value_and_grad" if where == "make_step" else where
        assert message_of(call, X[:0], Y[:0]) == f"{named}: expected at least one example, got an empty batch"
    steps = jn.make_steps(NET, LOSS, OPTIMIZER)
    same = "make_steps: expected x and y to have the same number of batches and examples, at least 1, got shapes "
    assert message_of(steps, fresh(), X, Y) == same + "(6, 3) and (6, 2); pass a single batch as x[None] and y[None]"
    assert message_of(steps, fresh(), X[None], Y[None, :5]) == same + "(1, 6, 3) and (1, 5, 2)"
    for k, m in ((0, 6), (2, 0)):
        blank = np.zeros((k, m, 3), np.float32), np.zeros((k, m, 2), np.float32)
        assert message_of(steps, fresh(), *blank) == "make_steps: expected at least one example, got an empty batch"


def test_lists_of_numbers_are_told_to_become_arrays():
    expected = (
        "value_and_grad: expected x and y to have the same number of examples, at least 1, got shapes () and (); "
        "make arrays of lists, as by np.asarray"
    )
    assert message_of(jn.value_and_grad(NET, LOSS), fresh().params, X.tolist(), Y.tolist()) == expected


def test_a_single_example_with_as_many_features_as_labels_is_refused_by_its_layer():
    net = jn.dense(3, 3)
    expected = (
        "dense(3, 3): backward needs the examples as the first axis, got x of shape (3,); "
        "pass a single example as x[None]"
    )
    for where in WHERE:
        loss = jn.losses.half_squared_error
        assert message_of(getattr(jn, where)(net, loss, OPTIMIZER), fresh(net), *(2 * [X[0]])).endswith(
            expected if where != "make_steps" else "pass a single batch as x[None] and y[None]"
        )
    assert message_of(jn.value_and_grad(net, loss), fresh(net).params, X[0], X[0]) == expected


BINARY = jn.mlp((3, 1))
LABELS = {
    "signs": (
        jn.losses.sigmoid_binary_cross_entropy,
        BINARY,
        np.array([[1.0], [0], [-1], [1], [-1], [1]], np.float32),
        "sigmoid_binary_cross_entropy: expected values of y in [0, 1], got -1.0 at y[2, 0]; labels of -1 and 1 become "
        "such by (y + 1) / 2",
    ),
    "classes": (
        jn.losses.softmax_cross_entropy_with_integer_labels,
        NET,
        np.array([0, 1, 1, 2, 0, -1]),
        "softmax_cross_entropy_with_integer_labels: expected labels from 0 to 1, got 2 at y[3]",
    ),
    "soft": (
        LOSS,
        NET,
        np.array([[0, 1], [2, 0], [1, 0], [1, 0], [1, -0.25], [1, 0]], np.float32),
        "softmax_cross_entropy: expected values of y of at least 0, and finite, got -0.25 at y[4, 1]",
    ),
}


@everywhere
@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_labels_that_the_loss_does_not_take_are_refused_at_the_first_call_with_their_shape(where, name, kind):
    loss, net, y, message = LABELS[name]
    step, state, y = made(where, loss, net), fresh(net), kind(y)
    assert message_of(step, state, X, y) == message
    right = abs(y) % 2
    state, _ = step(state, X, right)
    # Later calls with this shape do not wait for the values, those with another shape look again.
    state, _ = step(state, X, y)
    assert message_of(step, state, X[:5], y[:5]) == message


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_weight_0_are_not_looked_at(name):
    loss, net, y, message = LABELS[name]
    steps = jn.make_steps(net, loss, OPTIMIZER)
    right = abs(y) % 2
    weights = (right == y).reshape(1, 6, -1).all(-1) / np.float32(6)
    fine, _ = steps(fresh(net), X[None], y[None], weights)
    assert int(fine.step) == 1
    # Row numbers count those that are left.
    weights[:] = 0
    weights[0, -2:] = 0.5
    refused = message_of(jn.make_steps(net, loss, OPTIMIZER), fresh(net), X[None], y[None], weights)
    assert refused.split(", got ")[0] == message.split(", got ")[0]


def test_a_step_inside_another_program_has_no_values_to_look_at():
    step = jn.make_step(NET, LOSS, OPTIMIZER)
    wrong = LABELS["soft"][2]
    jax.eval_shape(jax.jit(step), fresh(), X, wrong)
    jax.eval_shape(lambda state: jax.lax.scan(lambda state, _: step(state, X, wrong), state, length=2), fresh())


def test_what_jit_gives_a_function_a_step_has(compilations):
    step = jn.make_step(NET, LOSS, OPTIMIZER)
    assert step.__name__ == "step"
    assert "stablehlo" in step.lower(fresh(), X, Y).as_text()
    step(fresh(), X, Y)
    assert compilations("step") == 1
