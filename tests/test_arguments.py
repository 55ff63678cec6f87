"""Arguments of another kind are refused in one line that says what was expected, and what to do."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet as jn

pytestmark = pytest.mark.usefixtures("without_shape_annotations")
NET, LOSS = jn.mlp((3, 4, 1), jn.tanh), jn.losses.half_squared_error
SGD, PARAMS = optax.sgd(0.1), ()
MISUSES = [
    (
        lambda: jn.mlp((3, 4, 1), "tanh"),
        "mlp: expected activation to be a Layer, such as jaxnet.tanh, got 'tanh'",
    ),
    (
        lambda: jn.mlp((3, 4, 1), jn.leaky_relu),
        "mlp: expected activation to be a Layer, such as jaxnet.tanh, got the function leaky_relu, which makes one: "
        "call it, as in leaky_relu(0.01)",
    ),
    (
        lambda: jn.mlp((3, 4, 1), output_activation=jnp.tanh),
        "mlp: expected output_activation to be a Layer, such as jaxnet.sigmoid, got the function tanh",
    ),
    (lambda: jn.leaky_relu("0.1"), "leaky_relu: expected a slope in (0, 1), got '0.1'"),
    (lambda: jn.mlp(3), "mlp: expected sizes such as (3, 4, 1), got 3"),
    (lambda: jn.mlp((3, jn.tanh, 1)), "dense: expected outputs to be a positive integer, got the layer tanh"),
    (lambda: jn.mlp((3, 4.0, 1)), "dense: expected outputs to be a positive integer, got 4.0"),
    (lambda: jn.dense(np.zeros(99), 1), "dense: expected inputs to be a positive integer, got a ndarray"),
    (
        lambda: jn.chain(jn.dense(3, 4), jn.dense),
        "chain: expected a Layer at position 1, such as jaxnet.tanh, got the function dense, which makes one: call it, "
        "as in dense(inputs, outputs)",
    ),
    (
        lambda: jn.chain([jn.tanh]),
        "chain: expected a Layer at position 0, such as jaxnet.tanh, got [tanh]",
    ),
    (
        lambda: jn.residual(LOSS),
        "residual: expected inner to be a Layer, such as jaxnet.dense(4, 4), got the loss half_squared_error",
    ),
    (lambda: jn.repeat(2, jn.tanh), "repeat: expected layer to be a Layer, such as jaxnet.dense(4, 4), got 2"),
    (lambda: jn.repeat(jn.tanh, 0), "repeat: expected n to be a positive integer, got 0"),
    (lambda: jn.repeat(jn.tanh, "2"), "repeat: expected n to be a positive integer, got '2'"),
    (lambda: jn.recompute(None), "recompute: expected layer to be a Layer, such as jaxnet.dense(4, 4), got None"),
    (
        lambda: jn.mixed_precision("float16"),
        "mixed_precision: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got 'float16'",
    ),
    (
        lambda: jn.feedback.sign_symmetry(NET.backward),
        "feedback.sign_symmetry: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got a partial",
    ),
    (
        lambda: jn.feedback.alignment((), NET),
        "feedback.alignment: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got ()",
    ),
    (
        lambda: jn.feedback.direct(LOSS, ()),
        "feedback.direct: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got the loss half_squared_error",
    ),
    (
        lambda: jn.value_and_grad(LOSS, NET),
        "value_and_grad: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got the loss half_squared_error",
    ),
    (
        lambda: jn.value_and_grad(NET, "half_squared_error"),
        "value_and_grad: expected loss to be a Loss, such as jaxnet.losses.half_squared_error, "
        "got 'half_squared_error'",
    ),
    (
        lambda: jn.with_hand_derived_vjp(NET.apply),
        "with_hand_derived_vjp: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), got the function apply",
    ),
    (
        lambda: jn.TrainState.create(NET.init, SGD),
        "TrainState.create: expected params as net.init(key) returns them, got a partial",
    ),
    (
        lambda: jn.TrainState.create(NET, SGD),
        "TrainState.create: expected params as net.init(key) returns them, got the layer chain(dense(3, 4), tanh, "
        "dense(4, 1))",
    ),
    (
        lambda: jn.TrainState.create(SGD, PARAMS),
        "TrainState.create: expected optimizer to be one of optax's, such as optax.adam(1e-3), got ()",
    ),
    (
        lambda: jn.TrainState.create(PARAMS, SGD, 0),
        "TrainState.create: expected key to be one such as jax.random.key(0), got 0",
    ),
    (
        lambda: jn.make_epoch(NET, LOSS, SGD, 0),
        "make_epoch: expected batch_size to be a positive integer, got 0",
    ),
    (
        lambda: jn.make_epoch(NET, LOSS, SGD, 2.5),
        "make_epoch: expected batch_size to be a positive integer, got 2.5",
    ),
    *(
        misuse
        for make in (jn.make_step, jn.make_epoch, jn.make_steps)
        for misuse in (
            (
                lambda make=make: make(LOSS, NET, SGD),
                f"{make.__name__}: expected net to be a Layer, such as jaxnet.mlp((3, 4, 1)), "
                "got the loss half_squared_error",
            ),
            (
                lambda make=make: make(NET, LOSS.forward, SGD),
                f"{make.__name__}: expected loss to be a Loss, such as jaxnet.losses.half_squared_error, "
                "got the function half_squared_error_forward",
            ),
            (
                lambda make=make: make(NET, LOSS, optax.adam),
                f"{make.__name__}: expected optimizer to be one of optax's, such as optax.adam(1e-3), "
                "got the function adam",
            ),
            (
                lambda make=make: make(NET, LOSS, "adam"),
                f"{make.__name__}: expected optimizer to be one of optax's, such as optax.adam(1e-3), got 'adam'",
            ),
        )
    ),
]


@pytest.mark.parametrize(("misuse", "message"), MISUSES, ids=[message for _, message in MISUSES])
def test_an_argument_of_another_kind_is_named(misuse, message):
    with pytest.raises(ValueError) as error:
        misuse()
    assert str(error.value) == message


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, jnp.asarray], ids=lambda kind: kind.__name__)
def test_sizes_are_integers_of_any_kind(kind):
    three, two = kind(3), kind(2)
    assert repr(jn.chain(jn.mlp((three, two, three)), jn.repeat(jn.dense(three, three), two))) == (
        "chain(chain(dense(3, 2), relu, dense(2, 3)), repeat(dense(3, 3), 2))"
    )
    assert repr(jn.mlp(np.array([3, 2]))) == "chain(dense(3, 2))"
