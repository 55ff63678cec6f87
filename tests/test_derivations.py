"""The pages of derivations point at code that is there, and say what it costs."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxnet as jn
from jaxnet import per_example

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "derivations").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_function_that_a_page_points_at_is_there(page):
    pointers = re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text())
    assert pointers
    for file, name in pointers:
        defined = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert name in defined, f"{page.name}: {file} has no function {name}"


def test_every_file_of_layers_has_a_page():
    named = {file for page in PAGES for file, _ in re.findall(r"`(jaxnet/[\w/]+\.py)::(\w+)`", page.read_text())}
    files = [*(ROOT / "jaxnet" / "layers").rglob("*.py"), ROOT / "jaxnet" / "recurrent.py", ROOT / "jaxnet" / "tied.py"]
    defining = [
        file.relative_to(ROOT).as_posix() for file in files if re.search(r"^def \w+_backward", file.read_text(), re.M)
    ]
    assert len(defining) > 20
    assert [file for file in defining if file not in named] == []


# m examples, T positions, V rows, d features.
m, T, V, d = 4, 16, 1000, 32
DZ, OF_OUTPUTS = (jax.ShapeDtypeStruct((m, T, features), jnp.float32) for features in (d, V))
IDS = jax.ShapeDtypeStruct((m, T), jnp.int32)


def operations(function, *shapes):
    return jax.jit(function).lower(*shapes).compile().cost_analysis()["flops"]


def of_table(read):
    return operations(lambda dz, ids: read(per_example.Rows(dz, ids, V)), DZ, IDS)


def of_tied_table(read):
    def read_sum(dz, ids, of_outputs, a):
        return read(per_example.Sum((per_example.Rows(dz, ids, V), per_example.Outer(of_outputs, a))))

    return operations(read_sum, DZ, IDS, OF_OUTPUTS, DZ)


def of_attention(part):
    layer, x = jn.attention(4), jax.ShapeDtypeStruct((m, 32, 64), jnp.float32)
    if part == "forward":
        return operations(lambda *qkv: layer.forward((), qkv)[0], x, x, x)
    cache = jax.eval_shape(lambda *qkv: layer.forward((), qkv)[1], x, x, x)
    return operations(lambda cache, dy: layer.backward((), cache, dy), cache, x)


def of_activation(layer):
    """For each number that comes back."""
    z = jax.ShapeDtypeStruct((64, 512), jnp.float32)
    a, cache = jax.eval_shape(lambda z: layer.forward((), z), z)
    return operations(lambda cache, da: layer.backward((), cache, da), cache, a) / a.size


MEAN_OF_TIED = m * (2 * T * V * d + T * d)
COUNTED = {
    "embedding, Kronecker factors": (lambda: of_table(lambda form: form.kronecker_factors(None)), m * 2 * T * d**2),
    "embedding, norms": (lambda: of_table(per_example.norms), m * (12 * T * d + 10 * T**2)),
    "embedding, Gram matrix": (lambda: of_table(per_example.gram), m**2 * (2 * T**2 * d + 4 * T**2)),
    "embedding, second moments": (lambda: of_table(per_example.second_moment), m * (4 * T * d + 8 * T**2) + V * d),
    "tied, norms": (lambda: of_tied_table(per_example.norms), 0.84 * MEAN_OF_TIED),
    "tied, clipped mean": (
        lambda: of_tied_table(lambda form: per_example.clipped_mean(form, 1.0)),
        1.25 * MEAN_OF_TIED,
    ),
    "attention, forward": (lambda: of_attention("forward"), m * (4 * 32 * 32 * 64 + 5 * 4 * 32 * 32)),
    "attention, backward": (lambda: of_attention("backward"), m * (10 * 32 * 32 * 64 + 12 * 4 * 32 * 32)),
    "tanh": (lambda: of_activation(jn.tanh), 4),
    "silu": (lambda: of_activation(jn.silu), 1),
    "gelu": (lambda: of_activation(jn.gelu), 1),
    "glu": (lambda: of_activation(jn.glu), 2),
    "geglu": (lambda: of_activation(jn.geglu), 2),
}


@pytest.mark.parametrize("what", COUNTED)
def test_costs_are_what_the_pages_say(what):
    count, stated = COUNTED[what]
    # The compiler's count of scatters and comparisons is not the pages' to the last one.
    assert count() == pytest.approx(stated, rel=0.1)
