"""Readings of the layers, against the same numbers from jax.grad and NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from objectives import objective_of
from own_layers import add_all
from reference import ACTIVATIONS
from tensorboardX.proto import event_pb2

import jaxnet as jn
from jaxnet.experiment.commands.train import run
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.data.source import InMemory
from jaxnet.experiment.data.split import Part
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage.tensorboard import Board
from jaxnet.experiment.training.diagnostics import EXAMPLES, make_diagnose
from jaxnet.experiment.training.position import Epoch

pytestmark = pytest.mark.usefixtures("optax_promotion")
PROBLEM = Problem("regression", ("y",), (), "half_squared_error", "identity", np.zeros(1), np.ones(1))


@pytest.mark.parametrize(
    ("mesh", "activation", "derivative"),
    [
        (None, "relu", lambda z: (z > 0).astype(float)),
        (None, "tanh", lambda z: 1 - np.tanh(z) ** 2),
        ("data=4,model=2", "sigmoid", lambda z: 4 * np.exp(-z) / (1 + np.exp(-z)) ** 2),
    ],
)
def test_every_number_is_that_of_jax_grad_and_numpy(mesh, activation, derivative, x64):
    config = TrainConfig(
        hidden=(6, 4), activation=activation, batch_size=10, optimizer="momentum", dtype="float64", mesh=mesh
    )
    layout = make_layout(mesh)
    rng = np.random.default_rng(0)
    # Far from 0, where some units are flat for all examples and some for a few.
    part = Part(InMemory(rng.normal(size=(EXAMPLES + 7, 3)) * 4), rng.normal(size=(EXAMPLES + 7, 1)))
    made = objective_of(config, PROBLEM, 3, 10, layout)
    told = make_diagnose(made, part, PROBLEM, 10, "float64", layout)(made.state)

    params = jax.tree.map(jnp.asarray, jax.device_get(made.state.params))
    x, y = jnp.asarray(part.x.values[:10]), jnp.asarray(part.y[:10])
    grads = jax.grad(lambda params: 0.5 * ((made.net.apply(params, x) - y) ** 2).sum(axis=1).mean())(params)
    a, layers, total = part.x.values[:EXAMPLES], [], 0.0
    for number, position in enumerate((0, 2, 4)):
        W, b = (np.asarray(leaf) for leaf in params[position])
        squares = sum((np.asarray(leaf) ** 2).sum() for leaf in grads[position])
        total += squares
        ratio = 0.01 * np.linalg.norm(grads[position].W) / np.linalg.norm(W)
        layers.append({"gradient_norm": np.sqrt(squares), "update_to_weight": ratio})
        if number < 2:
            z = a @ W.T + b
            flat = derivative(z) < 0.01
            layers[-1] |= {"dead": flat.all(axis=0).mean(), "saturated": flat.mean()}
            a = ACTIVATIONS[activation](z)
    # Some units are flat for some examples, or the test would say nothing.
    assert 0 < layers[0]["saturated"] < 1
    assert told["gradient_norm"] == pytest.approx(np.sqrt(total), rel=1e-12)
    assert [layer.keys() for layer in told["layers"]] == [layer.keys() for layer in layers]
    for layer, expected in zip(told["layers"], layers, strict=True):
        assert layer == pytest.approx(expected, rel=1e-12)


def test_dead_units_are_counted_and_a_layer_of_zeros_has_no_ratio():
    config = TrainConfig(hidden=(4,), init="zeros", batch_size=8)
    layout = make_layout()
    rng = np.random.default_rng(0)
    part = Part(InMemory(rng.normal(size=(20, 3))), rng.normal(size=(20, 1)))
    made = objective_of(config, PROBLEM, 3, 8, layout)
    state = made.state
    # The first unit is on for all examples, the second for those whose first feature is large.
    b = jnp.array([9.0, -1.0, -9.0, 0.0])
    W = jnp.zeros((4, 3)).at[1, 0].set(1)
    state = state._replace(params=(state.params[0]._replace(W=W, b=b), *state.params[1:]))
    told = make_diagnose(made, part, PROBLEM, 8, "float32", layout)(state)
    share = (part.x.values[:, 0] <= 1).mean()
    assert told["layers"][0]["dead"] == 0.5
    assert told["layers"][0]["saturated"] == pytest.approx((0 + share + 1 + 1) / 4, rel=1e-6)
    assert told["layers"][1]["update_to_weight"] is None


BLOCK = jn.chain(jn.dense(3, 3), jn.tanh)
AROUND = {
    "the layer alone": lambda layer: layer,
    "inside three others": lambda layer: jn.recompute(jn.residual(add_all(layer))),
}


def of_network(made, net, params):
    """The objective with another network, trained by gradient descent."""
    optimizer = optax.sgd(0.1)
    return made._replace(
        net=net,
        trained_net=net,
        value_and_grad=jn.value_and_grad(net, made.loss),
        steps=jn.make_steps(net, made.loss, optimizer),
        state=jn.TrainState.create(params, optimizer),
    )


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_a_repeated_layer_is_told_of_round_by_round_as_the_chain_of_its_rounds_is(around, x64, key):
    config = TrainConfig(hidden=(3,), batch_size=8, dtype="float64")
    layout = make_layout()
    rng = np.random.default_rng(0)
    part = Part(InMemory(rng.normal(size=(20, 3)) * 4), rng.normal(size=(20, 1)))
    made = objective_of(config, PROBLEM, 3, 8, layout)
    repeated = jn.chain(jn.repeat(around(BLOCK), 3), jn.dense(3, 1), jn.identity)
    one_by_one = jn.chain(jn.chain(*(around(BLOCK) for _ in range(3))), jn.dense(3, 1), jn.identity)
    params = repeated.init(key)
    apart = tuple(jax.tree.map(lambda leaf, k=k: leaf[k] * (k + 1), params[0]) for k in range(3))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)
    told, expected = (
        make_diagnose(of_network(made, net, params), part, PROBLEM, 8, "float64", layout)(
            of_network(made, net, params).state
        )
        for net, params in ((repeated, (stacked, *params[1:])), (one_by_one, (apart, *params[1:])))
    )
    assert len(told["layers"]) == 4
    assert [set(layer) - {"gradient_norm", "update_to_weight"} for layer in told["layers"]] == (
        [{"dead", "saturated"}] * 3 + [set()]
    )
    assert len({layer["saturated"] for layer in told["layers"][:3]}) > 1
    assert told["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-12)
    for layer, of_chain in zip(told["layers"], expected["layers"], strict=True):
        assert layer == pytest.approx(of_chain, rel=1e-10)


def test_a_gain_has_no_entry_and_an_activation_of_ones_own_is_as_flat_as_its_steepest_says(x64):
    def scale_forward(params, x):
        return x * params["gain"][None], (params["gain"], x)

    def scale_backward(params, cache, dy):
        return {"gain": jn.Each(dy * cache[1])}, dy * cache[0][None]

    scale = jn.Layer(lambda key: {"gain": jnp.ones(1)}, scale_forward, scale_backward, kind="linear")
    # a = 50 tanh(z): as steep as 50.
    steep = jn.Layer(
        lambda key: (),
        lambda params, z: (50 * jnp.tanh(z), jnp.tanh(z)),
        lambda params, a, da: ((), da * 50 * (1 - a**2)),
        kind="elementwise",
    )
    config = TrainConfig(hidden=(1,), batch_size=4, dtype="float64")
    layout = make_layout()
    x = np.array([[0.0], [1.0], [2.0], [3.5]])
    made = objective_of(config, PROBLEM, 1, 4, layout)
    net = jn.chain(jn.dense(1, 1), scale, steep)
    params = (jn.Dense(W=jnp.ones((1, 1)), b=jnp.zeros(1)), {"gain": jnp.ones(1)}, ())
    made = of_network(made, net, params)
    told = make_diagnose(made, Part(InMemory(x), x), PROBLEM, 4, "float64", layout)(made.state)
    # tanh'(3.5) is 0.0036, tanh'(2) is 0.07.
    (layer,) = told["layers"]
    assert (layer["dead"], layer["saturated"]) == (0, 0.25)


def test_a_run_writes_them_draws_them_and_goes_on_with_them(tmp_path):
    out = tmp_path / "run"
    changes = {"data": "iris", "hidden": (8,), "diagnostics": True, "tensorboard": True, "out": str(out)}
    run(TrainConfig(**changes, epochs=2, checkpoint_every="1epoch"))
    run(TrainConfig(**changes, epochs=3, checkpoint_every="1epoch", resume=str(out)))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [len(line["diagnostics"]["layers"]) for line in lines] == [2, 2, 2]
    assert (out / "figures" / "diagnostics.png").stat().st_size > 10_000
    values = read_scalars(out / "tensorboard")
    assert [step for step, _ in values["loss/training"]] == [1, 2, 3]
    np.testing.assert_allclose([v for _, v in values["loss/validation"]], [line["validation_loss"] for line in lines])
    np.testing.assert_allclose(
        [v for _, v in values["gradient_norm/layer_2"]],
        [line["diagnostics"]["layers"][1]["gradient_norm"] for line in lines],
    )
    assert "dead/layer_2" not in values
    assert set(values) > {"accuracy/validation", "update_to_weight/layer_1", "dead/layer_1", "saturated/layer_1"}


def test_epochs_that_are_made_again_count_once(tmp_path):
    board = Board(tmp_path, "rmse")
    board.begin(())
    for number in (1, 2, 3):
        board.add(Epoch(number, 1.0, 1.0, 1.0, 0.1))
    board.begin((Epoch(1, 1.0, 1.0, 1.0, 0.1),))
    board.add(Epoch(2, 5.0, 1.0, 1.0, 0.1))
    board.close()
    assert read_scalars(tmp_path / "tensorboard")["loss/training"] == [(1, 1.0), (2, 5.0)]


def read_scalars(where):
    """name -> (step, value), as TensorBoard reads event files: a restart takes back what comes after its step."""
    values = {}
    for path in sorted(where.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.session_log.status == event_pb2.SessionLog.START:
                values = {name: [(s, v) for s, v in kept if s < event.step] for name, kept in values.items()}
            for value in event.summary.value:
                values.setdefault(value.tag, []).append((event.step, value.simple_value))
    return values


def test_a_trace_of_a_few_steps_is_written_and_the_run_is_the_same(tmp_path, without_figures):
    losses = []
    for name, profile in (("plain", False), ("traced", True)):
        out = tmp_path / name
        run(TrainConfig(data="iris", hidden=(8,), epochs=2, out=str(out), profile=profile))
        lines = (out / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["train_loss"] for line in lines])
    assert losses[0] == losses[1]
    (trace,) = (tmp_path / "traced" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    assert not (tmp_path / "plain" / "profile").exists()
