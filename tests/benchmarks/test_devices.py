"""What a device holds and sends, as it is worked out, against the program that is compiled for eight devices."""

import itertools
import math
import re
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from benchmarks import devices
from benchmarks.load import OF_LABELS, load
from jax.interpreters import partial_eval
from objectives import objective_of

import jaxnet as jn
from jaxnet import per_example
from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.devices.gathering import gathering, placed
from jaxnet.experiment.devices.mesh import make_layout
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.kept_once import in_full, once_each
from jaxnet.parameters import sides_of

pytestmark = pytest.mark.usefixtures("optax_promotion")
ROOT = Path(__file__).parents[2]
STEPS, EXAMPLES = 3, 32
IDS = jax.ShapeDtypeStruct((8, 8), "int32")
SIZES = {"f32": 4, "s32": 4, "pred": 1}
LOSS = jn.losses.softmax_cross_entropy_with_integer_labels
# Without a scan, whose body the compiler counts once.
NETS = {
    "transformer": (
        jn.transformer(256, width=64, heads=4, depth=1, length=64, repeat=False),
        jax.ShapeDtypeStruct((4, 64), "int32"),
    ),
    "cnn": (jn.cnn((8, 8, 1), 10, channels=(32,)), jax.ShapeDtypeStruct((4, 8, 8, 1), "float32")),
}


def of_mlp(sizes, data=1, model=1):
    return load(jn.mlp(sizes), jax.ShapeDtypeStruct((EXAMPLES // data, sizes[0]), "float32"), data, model)


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


def lines_by_times(text):
    """Each line of a compiled program that is run, and how often: those of a loop's body as often as that is."""
    bodies, name = {}, ""
    for line in text.splitlines():
        begins = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$", line)
        name = begins[1] if begins else name
        bodies.setdefault(name, []).append(line)

    def of_body(name, times):
        for line in bodies[name]:
            yield line, times
            rounds = re.search(r'known_trip_count.*?"n":"(\d+)"', line)
            for inner in re.findall(r"(?:body|calls|to_apply)=%?([\w.\-]+)", line):
                yield from of_body(inner, times * int(rounds[1]) if rounds else times)

    return list(of_body(re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)[1], 1))


def sent_bytes(program):
    """Of what devices tell one another, by kind, in the text of a program."""
    found = Counter()
    for line, times in lines_by_times(program.as_text()):
        match = re.search(r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)\(", line)
        if match is not None:
            arrays = re.findall(r"(f32|s32|pred)\[([\d,]*)\]", match[1])
            found[match[2]] += times * sum(
                SIZES[kind] * math.prod(map(int, filter(None, s.split(",")))) for kind, s in arrays
            )
    return dict(found)


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


def gradient(net, x, mesh, *, shard_state):
    """The compiled gradient of 8 sequences, its parameters where they lie between steps; and the load."""
    layout = make_layout(mesh, shard_state=shard_state)
    data, model = (layout.mesh.shape[axis] for axis in ("data", "model"))
    params, labels = jax.eval_shape(net.init, jax.random.key(0)), jax.ShapeDtypeStruct(x.shape[:2], "int32")
    sides = sides_of(net, params, x)
    used = layout.of_params(net, params, sides, x)
    between = layout.between_steps(params, sides, used)
    of_batch = (
        placed(jn.value_and_grad, used, between, gathering(net), LOSS) if shard_state else jn.value_and_grad(net, LOSS)
    )

    def at(leaf, place):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    jitted = jax.jit(of_batch, out_shardings=(layout.places(), between))
    batch = (at(leaf, layout.places("data")) for leaf in (x, labels))
    program = jitted.lower(jax.tree.map(at, params, between), *batch).compile()
    share = jax.ShapeDtypeStruct((x.shape[0] // data, *x.shape[1:]), x.dtype)
    return program, load(net, share, data, model, shard_state=shard_state, of_loss=OF_LABELS)


def test_a_tied_transformer_is_gathered_layer_by_layer_and_an_eighth_of_it_stays():
    """As the compiler for CPUs has it: it gathers the table twice for its three uses, and sums whole gradients."""
    net = jn.transformer(24, width=16, heads=8, depth=3, length=8, tied=True)
    program, expected = gradient(net, IDS, "data=8", shard_state=True)
    table = 4 * 24 * 16
    assert sent_bytes(program) == {
        "all-gather": expected.gathered - table,
        "all-reduce": expected.scattered + expected.over_data,
    }
    # Of the four copies, parameters go in and gradients come out; beside them ids and labels, and the loss.
    memory, whole = program.memory_analysis(), load(net, IDS).state
    assert expected.state == whole / 8
    assert memory.argument_size_in_bytes == expected.state / 4 + 2 * 4 * 8
    assert 4 <= memory.output_size_in_bytes - expected.state / 4 <= 4 + 8 * 20


def test_over_both_axes_what_is_sent_is_that_of_the_compiled_program():
    """Without the embedding, for whose gradient there each version of the compiler has another way."""
    _, *rest = jn.transformer(24, width=16, heads=8, depth=3, length=8).made.args
    vectors = jax.ShapeDtypeStruct((8, 8, 16), "float32")
    program, expected = gradient(jn.chain(*rest), vectors, "data=4,model=2", shard_state=True)
    assert sent_bytes(program) == {
        "all-gather": expected.gathered,
        "all-reduce": expected.scattered + expected.over_data + expected.over_model,
    }


def test_tables_that_are_split_by_their_rows_have_sums_of_vectors_and_of_losses():
    net = jn.chain(jn.embedding(24, 16), jn.unembedding(24, 16))
    program, expected = gradient(net, IDS, "data=4,model=2", shard_state=False)
    assert sent_bytes(program) == {"all-reduce": expected.over_data + expected.over_model}


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
    expected = of_mlp(sizes, data, model)
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
    assert 1 <= counted / of_mlp(sizes).operations < 1.2


@pytest.mark.parametrize("name", NETS)
def test_products_of_other_networks_are_those_that_the_compiler_counts(name):
    net, x = NETS[name]
    params = jax.eval_shape(net.init, jax.random.key(0))
    y, _ = jax.eval_shape(net.forward, params, x)
    labels = jax.ShapeDtypeStruct(y.shape[:-1], "int32")
    counted = jax.jit(jn.value_and_grad(net, LOSS)).lower(params, x, labels).compile().cost_analysis()["flops"]
    # Of convolutions the compiler leaves out products with the zeros around an image.
    assert 0.95 <= counted / load(net, x).operations < 1.2


def test_of_a_convolutions_gradient_one_platforms_way_is_counted_at_every_offset():
    x = jax.ShapeDtypeStruct((4, 8, 8, 3), "float32")
    # Forward and dW, of 4 x 64 places, 16 outputs and 27 inputs each; nothing goes back to the first layer's inputs.
    assert load(jn.conv(3, 16, (3, 3)), x).operations == 2 * 2 * (4 * 64) * 16 * 27


def test_rounds_count_as_often_as_there_are():
    x = jax.ShapeDtypeStruct((2, 8), "int32")
    sizes = {"width": 16, "heads": 4, "depth": 3, "length": 8}
    repeated, chained = (load(jn.transformer(24, **sizes, repeat=repeat), x, 2, 2) for repeat in (True, False))
    assert repeated == chained


@pytest.mark.parametrize("net", [jn.mlp((64, 32, 16)), jn.transformer(24, width=16, heads=4, depth=3, length=8)])
def test_cache_is_what_backward_looks_at(net):
    params = jax.eval_shape(net.init, jax.random.key(0))
    by_numbers = len(jax.tree.leaves(params)) == 4
    x = jax.ShapeDtypeStruct((EXAMPLES, 64) if by_numbers else (2, 8), "float32" if by_numbers else "int32")

    # What is kept twice, and what of the parameters, XLA finds in a program; here they are left out by their identity.
    def forward(params, x):
        y, cache = net.forward(params, x)
        return y, once_each(cache, params)

    y, kept = jax.eval_shape(forward, params, x)

    def gradient(kept, params, dy):
        dparams, _ = net.backward(params, in_full(kept, params), dy)
        return per_example.mean(dparams)

    program = jax.make_jaxpr(gradient)(kept, params, y).jaxpr
    _, used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    looked_at = itertools.compress(jax.tree.leaves(kept), used)
    assert load(net, x).cache == sum(leaf.size * leaf.dtype.itemsize for leaf in looked_at)


def test_the_table_is_printed_and_written(tmp_path, capsys):
    results = devices.run(tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if re.match(r"\d+ = ", line)]) == 2 * 4 + 3 * 6
    # The page has all but the note at the end.
    assert set(printed[:-1]) <= set((ROOT / "docs" / "scaling.md").read_text().splitlines())
    assert (tmp_path / "results.json").exists()
    whole, split = (results[f"GPT-2 XL, 8 = 8 x 1{how}"] for how in ("", ", shard-state"))
    assert 1.5e9 < whole["parameters"] < 1.6e9
    assert (whole["state"], split["state"]) == (16 * whole["parameters"], 2 * whole["parameters"])
    # 1024 divides no side of its weights.
    assert results["GPT-2 XL, 1024 = 1024 x 1, shard-state"]["state"] == whole["state"]
