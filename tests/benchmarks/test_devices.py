"""What a device holds and sends, as it is worked out, against the program that is compiled for eight devices."""

import math
import re

import jax
import numpy as np
import pytest
from benchmarks import devices
from objectives import objective_of

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig

pytestmark = pytest.mark.usefixtures("optax_promotion")
STEPS, EXAMPLES = 3, 32


def compiled(sizes, data, model):
    inputs, *hidden, outputs = sizes
    names = tuple(f"y{k}" for k in range(outputs))
    problem = Problem("regression", names, (), "half_squared_error", "identity", np.zeros(outputs), np.ones(outputs))
    config = TrainConfig(hidden=tuple(hidden), batch_size=EXAMPLES, mesh=f"data={data},model={model}", optimizer="adam")
    layout = make_layout(config.mesh)
    objective = objective_of(config, problem, inputs, EXAMPLES, layout)
    x, y = (
        jax.ShapeDtypeStruct((STEPS, EXAMPLES, size), "float32", sharding=layout.places(None, "data"))
        for size in (inputs, outputs)
    )
    return objective.steps.lower(objective.state, x, y, None).compile()


def summed_bytes(program, data, model):
    """Of all-reduces among devices along each axis, in the text of a program."""
    found = {"data": 0, "model": 0}
    for line in program.as_text().splitlines():
        match = re.search(r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)\(", line)
        if match is None:
            continue
        assert match[2] == "all-reduce"
        numbers = sum(math.prod(map(int, filter(None, s.split(",")))) for s in re.findall(r"f32\[([\d,]*)\]", match[1]))
        # Neighbours on the mesh share a row of "data" and differ along "model".
        neighbours = re.search(r"replica_groups=(\{\{0,1|\[\d+,\d+\]<=\[8\],)", line)
        along_model = data == 1 or (model > 1 and neighbours is not None)
        found["model" if along_model else "data"] += 4 * numbers
    return found


# How many layers there are says which is split by what, where "model" splits any.
@pytest.mark.parametrize(
    ("sizes", "data", "model"),
    [
        *(((64, 32, 32, 32, 16), data, model) for data, model in ((1, 1), (8, 1), (1, 8), (4, 2))),
        *((sizes, data, model) for sizes in ((24, 32, 8), (24, 16, 32, 8)) for data, model in ((1, 8), (4, 2))),
    ],
)
def test_bytes_are_those_of_the_compiled_program(sizes, data, model):
    program = compiled(sizes, data, model)
    expected = devices.load(sizes, EXAMPLES, data, model)
    found = summed_bytes(program, data, model)
    # The loss's sum goes with the gradient's.
    assert found["data"] == expected.over_data
    assert found["model"] == expected.over_model
    # What stays: parameters and two moments, of the four copies; the batches; and some counters and a key.
    batches = 4 * STEPS * EXAMPLES // data * (sizes[0] + sizes[-1])
    rest = program.memory_analysis().argument_size_in_bytes - batches - expected.state * 3 // 4
    assert 0 <= rest <= 64


def test_operations_are_those_of_one_device_as_the_compiler_counts_them():
    sizes = (64, 32, 32, 16)
    counted = compiled(sizes, 1, 1).cost_analysis()["flops"]
    # The body of the scan is counted once; activations, loss and optimizer come on top of the products.
    products = devices.load(sizes, EXAMPLES, 1, 1).operations
    assert 1 <= counted / products < 1.2


def test_cache_is_what_the_network_keeps():
    import jaxnet as jn

    net = jn.mlp((64, 32, 16))
    params = jax.eval_shape(net.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((EXAMPLES, 64), "float32")
    _, cache = jax.eval_shape(net.forward, params, x)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    assert devices.load((64, 32, 16), EXAMPLES, 1, 1).cache == held


def test_the_table_is_printed_and_written(tmp_path, capsys):
    results = devices.run(tmp_path)
    printed = capsys.readouterr().out
    assert len([line for line in printed.splitlines() if " x " in line]) == 8
    assert (tmp_path / "results.json").exists()
    whole, split = (results[f"8192-65536x4-8192, {mesh}"] for mesh in ("8 x 1", "8 x 8"))
    assert split["state"] < whole["state"] / 7
