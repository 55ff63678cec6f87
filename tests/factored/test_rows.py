"""Rows of a table that ids look up: every reading against gradients formed in NumPy, one position after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet as jn
from jaxnet import per_example
from jaxnet.curvature.columns import AXIS
from jaxnet.factored import Diagonal, Rows, Stacked, Sum

EXAMPLES, SIZE, WIDTH = 5, 7, 3
WEIGHTS = np.array([0.5, 1.0, 0.0, 2.0, 0.25])
# Sums of tens of terms in another order, at 1.1e-16 each.
EXACT = {"rtol": 1e-12, "atol": 1e-13}
POSITIONS = pytest.mark.parametrize("positions", [(), (2,), (9,), (2, 3)], ids=str)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def some_ids(*positions, seed=0):
    """Ids that meet, and some out of range at either end."""
    return np.random.default_rng(seed).integers(-1, SIZE + 1, (EXAMPLES, *positions))


def formed(dz, ids):
    """(m, v, d), by a loop."""
    g = np.zeros((EXAMPLES, SIZE, WIDTH))
    for i in range(EXAMPLES):
        for one, v in zip(np.reshape(dz[i], (-1, WIDTH)), np.ravel(ids[i]), strict=True):
            if 0 <= v < SIZE:
                g[i, v] += one
    return g


def rows(*positions, seed=0):
    dz, ids = draw(EXAMPLES, *positions, WIDTH, seed=seed), some_ids(*positions, seed=seed)
    return Rows(jnp.asarray(dz), jnp.asarray(ids), SIZE), formed(dz, ids)


def outer(*positions, seed=1):
    dz, a = draw(EXAMPLES, *positions, SIZE, seed=seed), draw(EXAMPLES, *positions, WIDTH, seed=seed + 1)
    with_positions = np.reshape(dz, (EXAMPLES, -1, SIZE)), np.reshape(a, (EXAMPLES, -1, WIDTH))
    return jn.Outer(jnp.asarray(dz), jnp.asarray(a)), np.einsum("mtv,mtd->mvd", *with_positions)


def readings(form, direction, directions):
    counting = form.counting(jnp.asarray(WEIGHTS))
    return {
        "total": form.total(None),
        "weighted": counting.total(jnp.asarray(WEIGHTS)),
        "each": form.each(),
        "norms": form.norms(),
        "squares": form.squares(),
        "square_total": form.square_total(None),
        "square_total, weighted": form.square_total(jnp.asarray(WEIGHTS)),
        "dot": form.dot(direction),
        "along": form.along(directions),
        "paired": form.paired(form),
        "inner": form.inner(form),
        "block": form.block(),
        "formed": form.formed().each(),
    }


def expected_readings(g, direction, directions):
    flat = g.reshape(EXAMPLES, -1)
    return {
        "total": g.sum(0),
        "weighted": np.tensordot(WEIGHTS, g, 1),
        "each": g,
        "norms": np.linalg.norm(flat, axis=1),
        "squares": g**2,
        "square_total": (g**2).sum(0),
        "square_total, weighted": np.tensordot(WEIGHTS, g**2, 1),
        "dot": (g * direction).sum((1, 2)),
        "along": (g * directions).sum((1, 2)),
        "paired": (flat**2).sum(1),
        "inner": flat @ flat.T,
        "block": flat.T @ flat,
        "formed": g,
    }


@POSITIONS
def test_every_reading_is_that_of_the_gradients_formed(positions, x64):
    form, g = rows(*positions)
    direction, directions = draw(SIZE, WIDTH, seed=5), draw(EXAMPLES, SIZE, WIDTH, seed=6)
    actual = jax.jit(readings)(form, jnp.asarray(direction), jnp.asarray(directions))
    for name, value in expected_readings(g, direction, directions).items():
        np.testing.assert_allclose(actual[name], value, err_msg=name, **EXACT)


@POSITIONS
def test_terms_and_margins_are_of_all_that_is_added(positions, x64):
    form, g = rows(*positions)
    kept = (np.asarray(form.ids) >= 0) & (np.asarray(form.ids) < SIZE)
    terms = (np.linalg.norm(form.dz, axis=-1) * kept).reshape(EXAMPLES, -1).sum(1)

    @jax.jit
    def everything(form):
        unit, scale = form.scaled()
        return form.terms(), form.norms(0.1), unit.dz, unit.each() * scale[:, None, None]

    actual, norms, unit, each = everything(form)
    np.testing.assert_allclose(actual, terms, **EXACT)
    np.testing.assert_allclose(norms, np.sqrt((g**2).sum((1, 2))) + 0.1 * terms, **EXACT)
    assert np.abs(unit).max() <= 1
    np.testing.assert_allclose(each, g, **EXACT)


@pytest.mark.parametrize(
    ("positions", "others"),
    [((), ()), ((), (9,)), ((2,), (2,)), ((2,), (9,)), ((9,), (2,)), ((2, 3), (9,))],
    ids=str,
)
def test_pairs_with_other_forms_and_sums_are_exact(positions, others, x64):
    made = [rows(*positions), rows(*others, seed=3), outer(*others), outer(*positions, seed=8)]
    made.append((jn.Each(jnp.asarray(draw(EXAMPLES, SIZE, WIDTH)), ndim=2), draw(EXAMPLES, SIZE, WIDTH)))
    made.append((made[0][0].add(made[2][0]), made[0][1] + made[2][1]))
    forms, gradients = zip(*made, strict=True)
    assert isinstance(forms[-1], Sum)

    @jax.jit
    def everything(forms):
        pairs = [[form.paired(other) for other in forms] for form in forms]
        inner = [[form.inner(other) for other in forms] for form in forms]
        return pairs, inner, [form.norms() for form in forms], forms[0].add(forms[1]).each()

    pairs, inner, norms, merged = everything(forms)
    np.testing.assert_allclose(merged, gradients[0] + gradients[1], **EXACT)
    flat = [np.reshape(g, (EXAMPLES, -1)) for g in gradients]
    for i, g in enumerate(flat):
        np.testing.assert_allclose(norms[i], np.linalg.norm(g, axis=1), **EXACT)
        for j, h in enumerate(flat):
            np.testing.assert_allclose(pairs[i][j], (g * h).sum(1), err_msg=f"{i}, {j}", **EXACT)
            np.testing.assert_allclose(inner[i][j], g @ h.T, err_msg=f"{i}, {j}", **EXACT)


def test_like_tables_merge_and_unlike_forms_stand_in_a_sum():
    first, second = rows(2)[0], rows(4, seed=2)[0]
    assert isinstance(first.add(second), Rows)
    assert first.add(second).dz.shape == (EXAMPLES, 6, WIDTH)
    both = first.add(outer(2)[0])
    assert [type(form) for form in both.forms] == [Rows, jn.Outer]
    assert both.sides == (0, 1)


@POSITIONS
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["mean", "weights"])
def test_kronecker_factors_are_those_of_unit_vectors_with_counts_as_a_diagonal(positions, weights, x64):
    form, _ = rows(*positions)
    weights = None if weights is None else jnp.asarray(weights)
    outputs = jax.nn.one_hot(form.ids, SIZE, dtype=float)
    dz = form.dz * outputs.sum(-1, keepdims=True)

    @jax.jit
    def everything(form, dz, outputs):
        of_form = form.kronecker_factors(weights), form.matrix_factors(weights)
        return jn.Outer(dz, outputs).kronecker_factors(weights), of_form, of_form[0][0].matrix()

    (among_outputs, among_ids), of_form, matrix = everything(form, dz, outputs)
    np.testing.assert_allclose(matrix, among_ids, **EXACT)
    for counts, of_width in of_form:
        assert isinstance(counts, Diagonal)
        assert counts.values.shape == (SIZE,)
        np.testing.assert_allclose(np.diag(counts.values), among_ids, **EXACT)
        np.testing.assert_allclose(of_width, among_outputs, **EXACT)


def test_squares_and_factors_sum_over_columns_and_rotate(x64):
    columns = [rows(4, seed=seed)[0] for seed in range(3)]
    ids = columns[0].ids
    dz = jnp.stack([column.dz for column in columns])
    basis = jnp.linalg.qr(jnp.asarray(draw(WIDTH, WIDTH)))[0]

    def of_one(dz):
        form = Rows(dz, ids, SIZE)
        rotated = form.rotated((Diagonal(jnp.ones(SIZE)), basis))
        return (
            form.square_total(None, AXIS),
            form.squares(AXIS),
            form.kronecker_factors(None, AXIS),
            rotated.square_total(None, AXIS),
        )

    of_all = jax.jit(jax.vmap(of_one, axis_name=AXIS, out_axes=None))
    total, squares, (counts, of_width), rotated = of_all(dz)
    g = np.stack([formed(one, ids) for one in np.asarray(dz)])
    np.testing.assert_allclose(squares, (g**2).sum(0), **EXACT)
    np.testing.assert_allclose(total, (g**2).sum((0, 1)), **EXACT)
    np.testing.assert_allclose(rotated, ((g @ np.asarray(basis)) ** 2).sum((0, 1)), **EXACT)
    one_by_one = [Rows(one, ids, SIZE).kronecker_factors(None) for one in dz]
    np.testing.assert_allclose(counts.values, one_by_one[0][0].values, **EXACT)
    np.testing.assert_allclose(of_width, sum(of_one for _, of_one in one_by_one), **EXACT)


def test_stacked_tables_have_every_reading(x64):
    made = [rows(4, seed=seed) for seed in range(2)]
    form = Stacked(jax.tree.map(lambda *leaves: jnp.stack(leaves), *(form for form, _ in made)))
    g = np.stack([g for _, g in made], axis=1)
    flat = g.reshape(EXAMPLES, -1)

    @jax.jit
    def everything(form):
        factors = form.kronecker_factors(None)
        readings = form.each(), form.norms(), form.inner(form), form.square_total(None), form.add(form).total(None)
        return readings, factors, factors[0].matrix()

    readings, (counts, of_width), matrix = everything(form)
    expected = g, np.linalg.norm(flat, axis=1), flat @ flat.T, (g**2).sum(0), 2 * g.sum(0)
    for ours, theirs in zip(readings, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **EXACT)
    assert (counts.values.shape, of_width.shape) == ((2, SIZE), (2, WIDTH, WIDTH))
    assert matrix.shape == (2, SIZE, SIZE)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@POSITIONS
def test_short_factors_are_read_in_the_long_type(positions, dtype):
    dz, ids = jnp.asarray(draw(EXAMPLES, *positions, WIDTH), dtype), jnp.asarray(some_ids(*positions))
    form, g = Rows(dz, ids, SIZE), formed(np.asarray(dz, np.float64), ids)
    assert form.dtype_of_total() == dtype
    # Longer than any: what is clipped is shorter by what rounding of short factors might add.
    most = 2 * float(np.sqrt((g**2).sum((1, 2))).max())

    @jax.jit
    def readings(form):
        form = form.summed_in(jnp.float32)
        return {
            "total": form.total(None),
            "each": form.each(),
            "norms": form.norms(),
            "squares": form.square_total(None),
            "gram": form.inner(form),
            "clipped": per_example.clipped_mean(form, most),
        }

    expected = {
        "total": g.sum(0),
        "each": g,
        "norms": np.sqrt((g**2).sum((1, 2))),
        "squares": (g**2).sum(0),
        "gram": np.einsum("mvd,nvd->mn", g, g),
        "clipped": g.mean(0),
    }
    for name, actual in readings(form).items():
        assert actual.dtype == jnp.float32, name
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(actual, expected[name], rtol=0, atol=2e-6 * largest, err_msg=name)


def test_a_weight_of_zero_leaves_the_example_out_whatever_it_holds(x64):
    form, _ = rows(4)
    weights = jnp.asarray(WEIGHTS)
    spoilt = Rows(form.dz.at[2].set(jnp.nan), form.ids.at[2].set(10**6), SIZE)
    np.testing.assert_array_equal(per_example.total(spoilt, weights), per_example.total(form, weights))


@pytest.mark.parametrize("positions", [(), (40,)], ids=str)
def test_no_examples_table_is_formed_nor_a_matrix_among_all_rows(positions):
    size, width = 1000, 64
    form = Rows(jnp.ones((EXAMPLES, *positions, width)), jnp.ones((EXAMPLES, *positions), int), size)
    head = jn.Outer(jnp.ones((EXAMPLES, *positions, size)), jnp.ones((EXAMPLES, *positions, width)))

    def read(form, head):
        both = form.add(head)
        return (
            per_example.clipped_mean(form, 1.0),
            per_example.second_moment(form),
            per_example.dot(form, jnp.ones((size, width))),
            form.kronecker_factors(None),
            form.paired(head),
            both.norms(),
            both.dot(jnp.ones((size, width))),
            form.inner(form) if not positions else (),
        )

    program = str(jax.make_jaxpr(read)(form, head))
    assert f"{size},{width}]" in program
    for forbidden in (f"[{EXAMPLES},{size},{width}]", f"{size},{size}"):
        assert forbidden not in program


@pytest.mark.usefixtures("without_shape_annotations")
def test_other_positions_of_the_ids_are_named():
    with pytest.raises(ValueError) as error:
        per_example.mean(Rows(jnp.ones((5, 4, 3)), jnp.ones((5, 3), int), 7))
    assert str(error.value) == (
        "Rows: expected dz (m, ..., d) and ids (m, ...) with the same examples and positions, got (5, 4, 3) and (5, 3)"
    )
