"""What an accelerator gives: its matrix-product peak, and the share of it that training reaches.

A step of a wide dense network, in two types; and gradients of a network of convolutions and of a transformer, plain and
clipped, beside those of `jax.grad` and of other packages.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks import report
from benchmarks.accelerated import measured as networks
from benchmarks.accelerated.measured import seconds
from jaxnet import losses, per_example
from jaxnet.experiment.commands.train import run as train
from jaxnet.experiment.console import screen
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.gradient import value_and_grad
from jaxnet.networks import mlp
from jaxnet.precision import mixed_precision
from jaxnet.training import TrainState, make_step

WIDTH, BATCH, LAYERS, CLASSES = 8192, 8192, 3, 10
DTYPES = ("bfloat16", "float32")
TARGET = 0.75


def run(out: Path, seeds: int = 5) -> dict[str, Any]:
    """Measures, prints a table and writes results.json; without an accelerator it says so, and measures nothing.

    Args:
      out: the folder that is written into.
      seeds: rounds of timing.
    """
    if jax.default_backend() == "cpu":
        screen.say("no accelerator: JAX finds the CPU alone, so nothing was measured")
        results = {"benchmark": "accelerator", **report.environment(), "measured": None}
        report.write_results(out, results)
        return results
    measured = {dtype: measure(dtype, seeds) for dtype in DTYPES}
    readings = measure_readings(seeds)
    gradients = networks.measure_all(measured["bfloat16"]["peak"], seeds)
    trained = train(TrainConfig(out=str(out / "train")))
    what = {"width": WIDTH, "batch": BATCH, "layers": LAYERS, "target": TARGET, "rounds": seeds}
    results = {"benchmark": "accelerator", **report.environment(), **what, "measured": measured}
    results |= {"readings": readings, "gradients": gradients, "train": trained}
    report.write_results(out, results)
    print(_table(measured))
    screen.say(
        f"float32, in units of the gradient: per-example norms {readings['norms']:.2f}, "
        f"mean and norms {readings['mean_and_norms']:.2f}"
    )
    for unit, of_problem in gradients.items():
        print(f"\n{networks.table(unit, of_problem)}")
    return results


def measure(dtype: str, rounds: int) -> dict[str, Any]:
    """The peak and the steps in one type, in operations a second; PyTorch's step is None where it is not measured."""
    product, factors = _product(dtype)
    peak = 2 * WIDTH**3 / seconds(lambda: product(*factors), rounds)
    operations = step_operations()
    step, batch = _step(dtype)
    by_us = operations / seconds(lambda: step(*batch), rounds)
    torch_seconds = _torch_seconds(dtype, rounds)
    return {
        "peak": peak,
        "step": by_us,
        "share": by_us / peak,
        "torch_step": None if torch_seconds is None else operations / torch_seconds,
    }


def step_operations() -> int:
    """Of the matrix products in a step: each layer's z and dW, and dx of all but the first."""
    products = [2 * BATCH * WIDTH * WIDTH] * LAYERS + [2 * BATCH * WIDTH * CLASSES]
    return 3 * sum(products) - products[0]


def measure_readings(rounds: int) -> dict[str, float]:
    """Per-example norms, and mean and norms, in units of the time of the gradient."""
    net, params, x, y = _problem("float32")
    loss = losses.softmax_cross_entropy_with_integer_labels

    def reading(read):
        def program(params, x, y):
            z, cache = net.forward(params, x)
            dparams, _ = net.backward(params, cache, loss.backward(z, y))
            return read(dparams)

        return timed(program)

    def timed(program):
        jitted = jax.jit(program)
        return seconds(lambda: jitted(params, x, y), rounds)

    gradient = timed(value_and_grad(net, loss))
    norms = reading(per_example.squared_norms)
    both = reading(lambda dparams: (per_example.mean(dparams), per_example.squared_norms(dparams)))
    return {"gradient_seconds": gradient, "norms": norms / gradient, "mean_and_norms": both / gradient}


def _product(dtype):
    a, b = (jax.random.normal(jax.random.key(k), (WIDTH, WIDTH), dtype) for k in (0, 1))
    return jax.jit(jnp.matmul), (a, b)


def _problem(dtype):
    net = mlp((WIDTH,) * (LAYERS + 1) + (CLASSES,))
    params = jax.jit(net.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (BATCH, WIDTH))
    y = jax.random.randint(jax.random.key(2), (BATCH,), 0, CLASSES)
    return net if dtype == "float32" else mixed_precision(net, dtype), params, x, y


def _step(dtype):
    """A step that hands its state on, as (function of x and y)."""
    net, params, x, y = _problem(dtype)
    optimizer = optax.sgd(1e-3)
    state = TrainState.create(params, optimizer)
    step = make_step(net, losses.softmax_cross_entropy_with_integer_labels, optimizer)

    def next_step(x, y):
        nonlocal state
        state, metrics = step(state, x, y)
        return metrics["loss"]

    return next_step, (x, y)


def _torch_seconds(dtype, rounds):
    """PyTorch's compiled step on the same network in the same types; None where it is not there for the device."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():
        return None
    # TF32 for float32, as XLA takes it.
    torch.set_float32_matmul_precision("high")
    layers: list[Any] = []
    for _ in range(LAYERS):
        layers += [torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, CLASSES)).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    x = torch.randn(BATCH, WIDTH, device="cuda")
    y = torch.randint(0, CLASSES, (BATCH,), device="cuda")

    @torch.compile
    def loss_of(x, y):
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
            return torch.nn.functional.cross_entropy(net(x), y)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimizer.step()

    return seconds(step, rounds, lambda _: torch.cuda.synchronize())


def _table(measured):
    header = ("type", "peak, TFLOP/s", "step, TFLOP/s", "share", "target", "met", "torch.compile takes, times ours")
    rows = [
        (
            dtype,
            f"{of['peak'] / 1e12:.0f}",
            f"{of['step'] / 1e12:.0f}",
            f"{of['share']:.2f}",
            f"{TARGET}",
            "yes" if of["share"] >= TARGET else "no",
            f"{of['step'] / of['torch_step']:.2f}" if of["torch_step"] else "not measured",
        )
        for dtype, of in measured.items()
    ]
    note = f"{LAYERS} layers of {WIDTH}, batch {BATCH}, parameters in float32; the peak is a product of that size."
    return f"{screen.table(header, rows)}\n{screen.fill(note)}"
