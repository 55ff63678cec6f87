"""The gradients of a convolution's weight: every reading against those of `vmap(jax.grad)`, formed one by one."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxnet as jn
from jaxnet import per_example
from jaxnet.factored import Stacked, Sum, Window, Windows, window_products

EXAMPLES = 4
# Sums of hundreds of terms in another order, at 1.1e-16 each, relative to the largest value of each leaf.
TOLERANCE = 1e-12


class Case(NamedTuple):
    positions: tuple[int, ...]
    inputs: int
    outputs: int
    window: Window
    groups: int = 1


CASES = {
    # Pairs of places, T^2 (o + K) of them for each group, are taken where they are few beside o K; else gradients.
    "one axis, pairs": Case((6,), 3, 8, Window((5,), (2,), ((1, 1),), (1,))),
    "one axis, formed": Case((9,), 2, 3, Window((2,), (1,), ((0, 1),), (3,))),
    "a stride beyond the window, and a border that none sees": Case((9,), 2, 3, Window((2,), (4,), ((0, 0),), (1,))),
    "two axes, all at once": Case((7, 6), 4, 6, Window((3, 2), (2, 1), ((1, 2), (0, 3)), (1, 2)), 2),
    "a group for each channel": Case((4, 4), 3, 6, Window((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)), 3),
    "groups, pairs": Case((5, 4), 6, 8, Window((3, 4), (2, 1), ((0, 0), (0, 0)), (1, 1)), 2),
    "a single place": Case((3, 2), 4, 6, Window((3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)), 2),
    "three axes": Case((4, 3, 3), 2, 3, Window((2, 3, 1), (1, 2, 2), ((1, 0), (1, 1), (0, 0)), (2, 1, 1))),
    "a window of one": Case((3, 3), 4, 5, Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))),
}


def convolution(case, x, W):
    """By JAX itself, for its own derivatives."""
    axes = len(case.positions)
    order = (0, axes + 1, *range(1, axes + 1))
    _, stride, padding, dilation = case.window
    numbers = lax.ConvDimensionNumbers(order, order, order)
    return lax.conv_general_dilated(x, W, stride, padding, None, dilation, numbers, feature_group_count=case.groups)


def shape_of_weight(case):
    return case.outputs, *case.window.size, case.inputs // case.groups


def signals(case, rng, *leading, dtype=None, examples=EXAMPLES):
    x = jnp.asarray(rng.standard_normal((*leading, examples, *case.positions, case.inputs)), dtype)
    places = case.window.places(case.positions)
    return jnp.asarray(rng.standard_normal((*leading, examples, *places, case.outputs)), dtype), x


def gradients(case, dz, x):
    """(m, *weight), of the inner product of dz with what the convolution gives."""

    def of_one(dz, x):
        W = jnp.zeros(shape_of_weight(case), x.dtype)
        return jax.grad(lambda W: (dz * convolution(case, x[None], W)[0]).sum())(W)

    return jax.vmap(of_one)(dz, x)


def form_of(case, dz, x, **options):
    return Windows(dz, x, case.window, case.groups, **options)


def assert_close(actual, expected, name, tolerance=TOLERANCE):
    for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        largest = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * largest, err_msg=name)


WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0])


def along_by_hand(g, directions):
    return (g * directions).sum(tuple(range(1, g.ndim)))


READINGS = {
    # name: of the form with another one of as many examples and a third of three; of their gradients g, h and k.
    "total": (lambda form, *_: form.total(None), lambda g, *_: g.sum(0)),
    "weighted": (lambda form, *_: form.total(jnp.asarray(WEIGHTS)), lambda g, *_: np.tensordot(WEIGHTS, g, 1)),
    "each": (lambda form, *_: form.each(), lambda g, *_: g),
    "norms": (lambda form, *_: form.norms(), lambda g, *_: np.sqrt((g**2).sum(tuple(range(1, g.ndim))))),
    "dot": (lambda form, *_: form.dot(form.total(None)), lambda g, *_: along_by_hand(g, g.sum(0)[None])),
    "along": (lambda form, h, _: form.along(h.each()), lambda g, h, _: along_by_hand(g, h)),
    "paired": (lambda form, h, _: form.paired(h), lambda g, h, _: along_by_hand(g, h)),
    "inner": (
        lambda form, h, k: form.inner(k),
        lambda g, h, k: g.reshape(len(g), -1) @ k.reshape(len(k), -1).T,
    ),
    "square_total": (lambda form, *_: form.square_total(None), lambda g, *_: (g**2).sum(0)),
    "squares, weighted": (
        lambda form, *_: form.square_total(jnp.asarray(WEIGHTS)),
        lambda g, *_: np.tensordot(WEIGHTS, g**2, 1),
    ),
    "squares": (lambda form, *_: form.squares(), lambda g, *_: g**2),
    "block": (lambda form, *_: form.block(), lambda g, *_: g.reshape(len(g), -1).T @ g.reshape(len(g), -1)),
    "scaled": (
        lambda form, *_: jax.vmap(lambda g, s: g * s)(form.scaled()[0].each(), form.scaled()[1]),
        lambda g, *_: g,
    ),
    "formed": (lambda form, *_: form.formed().total(jnp.asarray(WEIGHTS)), lambda g, *_: np.tensordot(WEIGHTS, g, 1)),
    "counting": (
        lambda form, *_: form.counting(jnp.asarray(WEIGHTS)).each(),
        lambda g, *_: np.stack([of_one * (weight != 0) for of_one, weight in zip(g, WEIGHTS, strict=True)]),
    ),
    "variance": (lambda form, *_: per_example.variance(form), lambda g, *_: g.var(0)),
    "clipped": (
        lambda form, *_: per_example.clipped_mean(form, 3.0),
        lambda g, *_: np.tensordot(np.minimum(1, 3 / np.sqrt((g**2).sum(tuple(range(1, g.ndim))))), g, 1) / len(g),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_reading_is_that_of_the_gradients_formed_one_by_one(name, x64):
    case, rng = CASES[name], np.random.default_rng(0)
    arrays = [signals(case, rng, examples=examples) for examples in (EXAMPLES, EXAMPLES, 3)]

    @jax.jit
    def everything(arrays):
        forms = [form_of(case, *pair) for pair in arrays]
        readings = {reading: read(*forms) for reading, (read, _) in READINGS.items()}
        return readings, forms[0].terms(), forms[0].norms(0.1), [gradients(case, *pair) for pair in arrays]

    readings, terms, longer, expected = jax.device_get(everything(arrays))
    for reading, (_, expectation) in READINGS.items():
        assert_close(readings[reading], expectation(*expected), reading)
    norms = readings["norms"]
    assert (terms >= norms * (1 - 1e-14)).all()
    assert (longer >= np.hypot(norms, 0.1 * terms) * (1 - 1e-12)).all()
    if case.groups == 1:
        assert (longer >= (norms + 0.1 * terms) * (1 - 1e-12)).all()
    assert_close(terms, sum_of_lengths(case, *jax.device_get(arrays[0])), "terms")


def patches(case, x):
    """(m, places, groups, offsets, c), by loops."""
    size, stride, padding, dilation = case.window
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    x = x.reshape(*x.shape[:-1], case.groups, -1)
    at = []
    for place in np.ndindex(*case.window.places(case.positions)):
        covered = [
            x[(slice(None), *(p * s + k * d for p, s, k, d in zip(place, stride, offset, dilation, strict=True)))]
            for offset in np.ndindex(*size)
        ]
        at.append(np.stack(covered, axis=2))
    return np.stack(at, axis=1)


def by_group(case, dz, x):
    """(dz (m, places, groups, o / groups), patches (m, places, groups, K))."""
    covered = patches(case, np.asarray(x))
    dz = np.asarray(dz).reshape(*covered.shape[:3], -1)
    return dz, covered.reshape(*covered.shape[:3], -1)


def sum_of_lengths(case, dz, x):
    dz, covered = by_group(case, dz, x)
    lengths = np.linalg.norm(dz, axis=3) * np.linalg.norm(covered, axis=3)
    return np.linalg.norm(lengths.sum(1), axis=1)


@pytest.mark.parametrize("name", CASES)
def test_kronecker_factors_are_of_a_group_and_none_counts_across_groups(name, x64):
    """Of each group B = (1/m) sum_it dz_it dz_it^T and A the mean of its patches' products."""
    case, columns = CASES[name], 3
    rng = np.random.default_rng(0)
    dz, x = signals(case, rng, columns)
    x = x[0]

    @jax.jit
    def factors(dz, x):
        def read(dz):
            return [form_of(case, dz, x).kronecker_factors(w, "columns") for w in (None, jnp.asarray(WEIGHTS))]

        return jax.vmap(read, axis_name="columns", out_axes=None)(dz)

    for (B, A), weights in zip(factors(dz, x), (np.full(EXAMPLES, 1 / EXAMPLES), WEIGHTS), strict=True):
        of_columns = [by_group(case, of_column, x) for of_column in dz]
        covered = of_columns[0][1]
        expected = (
            sum(np.einsum("m,mtgo,mtgp->gop", weights, of_column, of_column) for of_column, _ in of_columns),
            np.einsum("m,mtgk,mtgl->gkl", weights, covered, covered) / covered.shape[1],
        )
        for ours, theirs in zip((B, A), expected, strict=True):
            assert_close(ours, theirs[0] if case.groups == 1 else theirs, "factors")


@pytest.mark.parametrize("name", ["two axes, all at once", "groups, pairs", "one axis, formed", "a single place"])
def test_over_columns_squares_are_summed_and_in_any_basis(name, x64):
    case, columns = CASES[name], 3
    rng = np.random.default_rng(0)
    dz, x = signals(case, rng, columns)
    x = x[0]
    rows, inputs = case.outputs // case.groups, np.prod(case.window.size) * case.inputs // case.groups
    bases = [np.linalg.qr(rng.standard_normal((case.groups, n, n)))[0] for n in (rows, inputs)]
    given = tuple(jnp.asarray(basis[0] if case.groups == 1 else basis) for basis in bases)

    @jax.jit
    def everything(dz, x):
        def read(dz):
            form = form_of(case, dz, x)
            return (
                form.square_total(None, "columns"),
                form.square_total(jnp.asarray(WEIGHTS), "columns"),
                form.squares("columns"),
                form.rotated(given).square_total(None, "columns"),
            )

        g = jax.vmap(lambda dz: gradients(case, dz, x))(dz)
        return jax.vmap(read, axis_name="columns", out_axes=None)(dz), g

    actual, g = jax.device_get(everything(dz, x))
    matrices = g.reshape(columns, EXAMPLES, case.groups, rows, inputs)
    turned = np.einsum("gop,vmgoi,gij->vmgpj", bases[0], matrices, bases[1])
    squares = (g**2).sum(0)
    expected = squares.sum(0), np.tensordot(WEIGHTS, squares, 1), squares, (turned**2).sum((0, 1))
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours.reshape(theirs.shape), theirs, name)


@pytest.mark.parametrize("name", ["two axes, all at once", "one axis, pairs", "a single place"])
def test_where_x_is_what_came_back_the_columns_are_in_it(name, x64):
    """B and A change places: of what came back it is the patches that are sent, and dz that stays."""
    case, columns = CASES[name], 3
    rng = np.random.default_rng(0)
    dz, x = signals(case, rng, columns)
    dz = dz[0]
    rows, inputs = case.outputs // case.groups, np.prod(case.window.size) * case.inputs // case.groups
    bases = [np.linalg.qr(rng.standard_normal((case.groups, n, n)))[0] for n in (rows, inputs)]
    given = tuple(jnp.asarray(basis[0] if case.groups == 1 else basis) for basis in bases)

    @jax.jit
    def everything(dz, x):
        def read(x):
            form = form_of(case, dz, x, spreads=True)
            return (
                form.square_total(jnp.asarray(WEIGHTS), "columns"),
                form.squares("columns"),
                form.rotated(given).square_total(None, "columns"),
                form.kronecker_factors(None, "columns"),
            )

        g = jax.vmap(lambda x: gradients(case, dz, x))(x)
        return jax.vmap(read, axis_name="columns", out_axes=None)(x), g

    (*actual, factors), g = jax.device_get(everything(dz, x))
    matrices = g.reshape(columns, EXAMPLES, case.groups, rows, inputs)
    turned = np.einsum("gop,vmgoi,gij->vmgpj", bases[0], matrices, bases[1])
    squares = (g**2).sum(0)
    for ours, theirs in zip(actual, (np.tensordot(WEIGHTS, squares, 1), squares, (turned**2).sum((0, 1))), strict=True):
        assert_close(ours.reshape(theirs.shape), theirs, name)
    of_columns = [by_group(case, dz, of_column) for of_column in x]
    places = of_columns[0][0].shape[1]
    of_dz = np.einsum("mtgo,mtgp->gop", of_columns[0][0], of_columns[0][0]) / (EXAMPLES * places)
    of_patches = sum(np.einsum("mtgk,mtgl->gkl", covered, covered) for _, covered in of_columns) / EXAMPLES
    for ours, theirs in zip(factors, (of_dz, of_patches), strict=True):
        assert_close(ours, theirs[0] if case.groups == 1 else theirs, "factors")


@pytest.mark.parametrize("name", ["two axes, all at once", "one axis, pairs"])
def test_in_a_stack_and_in_a_sum_it_is_read_as_the_gradients_are(name, x64):
    case, layers = CASES[name], 2
    rng = np.random.default_rng(0)
    (dz, x), (other_dz, other_x) = (signals(case, rng, layers) for _ in range(2))
    further = jnp.asarray(rng.standard_normal((EXAMPLES, *shape_of_weight(case))))

    @jax.jit
    def everything():
        stacked, others = (Stacked(jax.vmap(partial(form_of, case))(*pair)) for pair in ((dz, x), (other_dz, other_x)))
        added = form_of(case, dz[0], x[0]).add(jn.Each(further, further.ndim - 1)).add(form_of(case, dz[1], x[1]))
        assert isinstance(added, Sum)

        def readings(form, other):
            return (
                form.total(jnp.asarray(WEIGHTS)),
                form.each(),
                form.norms(),
                form.paired(other),
                form.inner(other),
                form.dot(form.total(None)),
                form.square_total(jnp.asarray(WEIGHTS)),
                per_example.clipped_mean(form.summed_in(jnp.float64), 3.0),
                per_example.variance(form),
            )

        g, h = (jax.vmap(partial(gradients, case), out_axes=1)(*pair) for pair in ((dz, x), (other_dz, other_x)))
        uses = jn.Each(further, further.ndim - 1)
        expected = [
            readings(jn.Each(g, g.ndim - 1), jn.Each(h, h.ndim - 1)),
            readings(jn.Each(g.sum(1) + further, g.ndim - 2), uses),
        ]
        return [readings(stacked, others), readings(added, uses)], expected

    actual, expected = jax.device_get(everything())
    assert_close(actual, expected, name)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("two axes, all at once", jnp.bfloat16),
        ("one axis, pairs", jnp.bfloat16),
        ("one axis, pairs", jnp.float16),
    ],
)
def test_short_factors_are_read_in_the_long_type(name, dtype):
    case, rng = CASES[name], np.random.default_rng(0)
    dz, x = signals(case, rng, dtype=dtype)
    with jax.enable_x64(True):
        wide = (jnp.asarray(np.asarray(array, np.float64)) for array in (dz, x))
        g = np.asarray(jax.jit(partial(gradients, case))(*wide))

    @jax.jit
    def readings(dz, x):
        long = form_of(case, dz, x).summed_in(jnp.float32)
        return {
            "total": long.total(None),
            "weighted": long.total(jnp.asarray(WEIGHTS * 1e6)),
            "each": long.each(),
            "norms": long.norms(),
            "squares": long.square_total(None),
            "dot": long.dot(jnp.ones(g.shape[1:])),
            "clipped": per_example.clipped_mean(long, 1e9),
        }

    expectations = {
        "total": g.sum(0),
        "weighted": np.tensordot(WEIGHTS * 1e6, g, 1),
        "each": g,
        "norms": np.sqrt((g**2).sum(tuple(range(1, g.ndim)))),
        "squares": (g**2).sum(0),
        "dot": g.sum(tuple(range(1, g.ndim))),
        "clipped": g.mean(0),
    }
    for reading, actual in readings(dz, x).items():
        expected = expectations[reading]
        assert actual.dtype == jnp.float32, reading
        # Weights meet dz before the product, in bfloat16's range but with its 8 bits.
        bound = 2**-7 if reading in ("weighted",) and dtype == jnp.bfloat16 else 2e-5
        assert_close(np.asarray(actual), expected, reading, bound)
    assert form_of(case, dz, x).total(None).dtype == dtype


def test_a_gradient_is_formed_where_that_takes_fewer_operations():
    def formed(positions, channels, budget, **options):
        case = Case((positions,), channels, channels, Window((3,), (1,), ((1, 1),), (1,)))
        form = form_of(case, *signals(case, np.random.default_rng(0), dtype=jnp.float32))
        return isinstance(per_example.formed(form, budget, **options), jn.Each)

    # o K = 12 * 36 = 432; 2 T (o + K) is 384 and 480 for 4 and 5 positions, and the factors hold 24 T numbers.
    numbers = EXAMPLES * 432
    assert [formed(t, 12, numbers) for t in (1, 2, 4, 5, 18)] == [False, False, False, True, True]
    assert [formed(t, 12, numbers - 1) for t in (5, 17, 18)] == [False, False, True]
    assert [formed(t, 12, 0, moments=True) for t in (1, 2, 3, 4)] == [False, False, False, True]


def test_a_gradient_takes_half_of_the_memory_that_xlas_convolution_takes():
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    dz, x = (jax.ShapeDtypeStruct((16, 14, 14, channels), jnp.float32) for channels in (64, 32))

    def temporaries(total):
        return jax.jit(total).lower(dz, x).compile().memory_analysis().temp_size_in_bytes

    ours = temporaries(lambda dz, x: Windows(dz, x, window).total(None))
    assert ours < temporaries(lambda dz, x: window.gathered(dz, x, None)) / 2


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("examples", [1, 6, 7, 16, 24])
def test_however_many_examples_are_taken_at_a_time_each_has_its_own_gradient(examples, groups, x64):
    case = Case((5, 4), 4, 6, Window((3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)), groups)
    dz, x = signals(case, np.random.default_rng(0), examples=examples)
    form = form_of(case, dz, x)

    def product(W, dz, x):
        return jnp.vdot(convolution(case, x[None], W)[0], dz)

    expected = jax.vmap(jax.grad(product), (None, 0, 0))(jnp.zeros(shape_of_weight(case)), dz, x)
    for read, of_expected in ((form.each(), expected), (form.total(None), expected.sum(0))):
        np.testing.assert_allclose(read, of_expected, rtol=0, atol=TOLERANCE * np.abs(of_expected).max())


@pytest.mark.parametrize(
    ("examples", "numbers", "devices", "together"),
    [
        (32, 100, 1, 8),
        (12, 100, 1, 4),
        (7, 100, 1, 1),
        (32, 2**18, 1, 4),
        (32, 2**21, 1, 1),
        (32, 100, 4, 8),
        (32, 2**21, 4, 4),
        (48, 100, 3, 6),
        (32, 100, 16, 16),
        (32, 2**20, 2, 2),
    ],
)
def test_a_few_examples_are_taken_at_a_time_whose_patches_fit_and_so_many_on_every_device(
    examples, numbers, devices, together
):
    assert window_products.together(examples, numbers, devices) == together


def test_forming_gradients_takes_the_patches_of_a_few_examples_beside_them():
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    dz, x = (jax.ShapeDtypeStruct((64, 14, 14, channels), jnp.float32) for channels in (64, 32))
    each = jax.jit(lambda dz, x: Windows(dz, x, window).each()).lower(dz, x).compile()
    patches = 8 * 14**2 * 9 * 32 * 4  # bytes
    # By offset it is three times as much: padded inputs, what an offset covers, and the gradients turned round.
    assert each.memory_analysis().temp_size_in_bytes <= 2.5 * patches


def test_what_gradients_are_written_into_is_no_constant_that_is_copied_for_each_weight():
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    dz, x = (jax.ShapeDtypeStruct((64, 4, 4, 64), jnp.float32) for _ in range(2))

    def of_two(dz, x):
        return Windows(dz, x, window).each(), Windows(2 * dz, x, window).each()

    memory = jax.jit(of_two).lower(dz, x).compile().memory_analysis()
    # Such a constant is half of what is returned.
    assert memory.temp_size_in_bytes <= memory.output_size_in_bytes / 8


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_over_a_mesh_no_device_is_told_of_anothers_examples(axis_type, monkeypatch):
    """Gradients of examples are made where the examples are, as many at a time as there are devices."""
    if axis_type is AxisType.Explicit:  # which says of how many: also where the patches of fewer are too large
        monkeypatch.setattr(window_products, "PATCHES", 1)
        jax.clear_caches()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
    rows, whole = (NamedSharding(mesh, PartitionSpec(axis)) for axis in ("data", None))
    window = Window((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    dz, x = (jax.ShapeDtypeStruct((32, 6, 6, channels), jnp.float32, sharding=rows) for channels in (4, 3))
    with jax.set_mesh(mesh):
        each = jax.jit(lambda dz, x: Windows(dz, x, window, 1, whole).each(), out_shardings=rows)
        program = each.lower(dz, x).compile().as_text()
    for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert word not in program


@pytest.mark.usefixtures("without_shape_annotations")
def test_signals_that_do_not_belong_together_are_named():
    with pytest.raises(ValueError) as error:
        Windows(jnp.ones((2, 4, 3)), jnp.ones((2, 4, 3)), Window((3,), (1,), ((0, 0),), (1,)))
    assert str(error.value) == (
        "Windows: expected dz (m, *places, o) and x (m, *positions, i) with the places that a Window(size=(3,), "
        "stride=(1,), padding=((0, 0),), dilation=(1,)) has, and o and i that 1 groups divide, got (2, 4, 3) and "
        "(2, 4, 3)"
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_outside_of_jit_a_second_gradient_compiles_nothing(groups, caplog):
    case = Case((5, 5), 2, 4, Window((3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)), groups)
    dz, x = signals(case, np.random.default_rng(0), dtype=jnp.float32)

    def compiled():
        caplog.clear()
        with jax.log_compiles():
            form_of(case, dz, x).total(None)
            form_of(case, dz, x).each()
        return [message for message in caplog.messages if "XLA compilation" in message]

    assert compiled()
    assert compiled() == []
