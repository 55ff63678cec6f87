"""<g_i, h_i> and |g_i| of every form with every other of the same parameter, against gradients formed in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_form import Rows

import jaxnet as jn
from jaxnet.factored import Stacked, Sum

EXAMPLES, LAYERS, SHAPE = 5, 2, (4, 3)
# Sums of tens of terms in another order, at 1.1e-16 each.
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def formed(dz, a):
    dz, a = (np.reshape(signal, (len(signal), -1, signal.shape[-1])) for signal in (dz, a))
    return np.einsum("mto,mti->moi", dz, a)


def outer(draw, *positions):
    dz, a = (draw(EXAMPLES, *positions, size) for size in SHAPE)
    return jn.Outer(dz, a), formed(dz, a)


def each(draw, *positions):
    g = draw(EXAMPLES, *positions, *SHAPE)
    return jn.Each(g, ndim=2), np.sum(g, tuple(range(1, 1 + len(positions))))


def rows(draw):
    """A form that can tell no more than it must."""
    dz, ids = draw(EXAMPLES, 3), jnp.arange(EXAMPLES) % SHAPE[0]
    g = np.zeros((EXAMPLES, *SHAPE))
    g[np.arange(EXAMPLES), ids] = dz
    return Rows(dz, ids, SHAPE[0]), g


def added(*pairs):
    forms, gradients = zip(*pairs, strict=True)
    whole = forms[0]
    for form in forms[1:]:
        whole = whole.add(form)
    return whole, sum(gradients)


def forms_of_a_matrix(draw):
    return {
        "outer": outer(draw),
        "outer, few positions": outer(draw, 2),
        "outer, many positions": outer(draw, 3, 3),
        "each": each(draw),
        "each, with positions": each(draw, 2),
        "rows": rows(draw),
        "a sum": added(outer(draw), each(draw, 2)),
        "a sum with positions": added(each(draw), outer(draw, 7)),
        "a sum of sums": added(added(outer(draw), rows(draw)), added(rows(draw), each(draw), outer(draw, 2))),
    }


def forms_of_a_stack(draw):
    def stacked(make):
        made = [make() for _ in range(LAYERS)]
        return Stacked(jax.tree.map(lambda *leaves: jnp.stack(leaves), *(form for form, _ in made))), np.stack(
            [g for _, g in made], axis=1
        )

    g = draw(EXAMPLES, LAYERS, *SHAPE)
    return {
        "each": (jn.Each(g, ndim=3), np.asarray(g)),
        "outers": stacked(lambda: outer(draw)),
        "outers, with positions": stacked(lambda: outer(draw, 7)),
        "sums": stacked(lambda: added(outer(draw, 2), each(draw))),
        "a sum": added(stacked(lambda: outer(draw)), (jn.Each(g, ndim=3), np.asarray(g))),
    }


@pytest.fixture
def draw(x64):
    rng = np.random.default_rng(0)
    return lambda *shape: jnp.asarray(rng.standard_normal(shape))


@pytest.mark.parametrize("make", [forms_of_a_matrix, forms_of_a_stack], ids=["a matrix", "a stack"])
def test_every_pair_of_forms_has_its_inner_products(make, draw):
    made = make(draw)
    forms, gradients = ({name: pair[k] for name, pair in made.items()} for k in (0, 1))

    @jax.jit
    def everything(forms):
        pairs = {(a, b): forms[a].paired(forms[b]) for a in forms for b in forms}
        inner = {(a, b): forms[a].inner(forms[b]) for a in forms for b in forms}
        return pairs, inner, {name: form.norms() for name, form in forms.items()}

    pairs, inner, norms = everything(forms)
    flat = {name: g.reshape(EXAMPLES, -1) for name, g in gradients.items()}
    for a, b in pairs:
        np.testing.assert_allclose(pairs[a, b], (flat[a] * flat[b]).sum(1), err_msg=f"{a}, {b}", **EXACT)
        np.testing.assert_allclose(inner[a, b], flat[a] @ flat[b].T, err_msg=f"{a}, {b}", **EXACT)
    for name in forms:
        np.testing.assert_allclose(norms[name], np.sqrt((flat[name] ** 2).sum(1)), err_msg=name, **EXACT)


def test_pairs_of_positions_are_taken_where_they_cost_less_than_forming():
    """T S (o + i) against (T + S) o i."""
    few, many = (jn.Outer(jnp.ones((EXAMPLES, t, 12)), jnp.ones((EXAMPLES, t, 12))) for t in (2, 50))
    for other, formed in ((few, False), (many, True)):
        program = str(jax.make_jaxpr(lambda form, other: form.paired(other))(many, other))
        assert (f"f32[{EXAMPLES},12,12]" in program) == formed


def test_no_form_is_formed_to_be_paired_with_one_that_is():
    wide = jn.Outer(jnp.ones((EXAMPLES, 2, 40)), jnp.ones((EXAMPLES, 2, 30)))
    formed = jn.Each(jnp.ones((EXAMPLES, 40, 30)), ndim=2)
    for one, other in ((wide, formed), (formed, wide)):
        program = jax.make_jaxpr(lambda form, other: form.paired(other))(one, other)
        shapes = [variable.aval.shape for equation in program.eqns for variable in equation.outvars]
        assert (EXAMPLES, 2, 30) in shapes
        products = [equation for equation in program.eqns if equation.primitive.name == "dot_general"]
        assert len(products) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_of_sums_are_right_wherever_they_are_numbers(dtype, x64):
    """Sizes of the first form and of the second, from the least numbers to the largest."""
    sizes = 10.0 ** np.array([-30, -15, 0, 15, 30] if dtype == "float32" else [-200, -100, 0, 100, 200])
    rng = np.random.default_rng(0)
    dz, a, g = (rng.standard_normal(shape) for shape in ((25, 1, 2, 4), (25, 1, 2, 3), (25, 1, 4, 3)))
    of_outer, of_each = (size.reshape(25, 1, 1) for size in np.meshgrid(sizes, sizes))
    share = of_outer**0.5
    dz, a, g = dz * share[..., None], a * (of_outer / share)[..., None], g * of_each[..., None]
    dz, a, g = (jnp.asarray(array, dtype) for array in (dz, a, g))
    form = Sum((jn.Outer(dz, a), jax.vmap(lambda g: jn.Each(g, 2))(g)))
    long = [np.asarray(array).astype(np.longdouble) for array in (dz, a, g)]
    expected = np.sqrt(((np.einsum("kmto,kmti->kmoi", *long[:2]) + long[2]) ** 2).sum((2, 3)))
    eps = float(jnp.finfo(dtype).eps)
    norms = jax.jit(jax.vmap(lambda form: form.norms()))(form)
    np.testing.assert_allclose(np.asarray(norms).astype(np.longdouble) / expected, 1, rtol=50 * eps)
    longer = jax.jit(jax.vmap(lambda form: form.norms(100 * eps)))(form)
    assert (np.asarray(longer).astype(np.longdouble) >= expected * (1 + 50 * eps)).all()


def test_a_margin_is_of_the_terms_where_forms_cancel():
    """g - g is 0, which rounding may make anything up to eps |g|."""
    dz, a = jnp.full((1, 4), 3e-20), jnp.full((1, 3), 1e-20)
    outer = jn.Outer(dz, a)
    form = outer.add(jn.Each(-outer.each(), 2))
    length = outer.norms()
    assert form.norms() <= 1e-3 * length
    np.testing.assert_allclose(form.norms(0.01), 0.02 * length, rtol=0.01)
