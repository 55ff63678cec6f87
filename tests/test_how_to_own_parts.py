"""The pages on a layer, a loss, a combinator and a derivative of one's own print what is written, and it is so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from page_programs import programs_of, run

import jaxnet as jn

pytestmark = pytest.mark.usefixtures("optax_promotion", "without_shape_annotations", "any_rank")


def test_a_layer_of_your_own_is_checked_trained_and_read(capsys):
    names = run("own-layer.md", capsys)
    (params, last), x = names["params"], names["x"]
    z = x @ params["W"].T + (x @ params["U"].T) ** 2
    np.testing.assert_allclose(names["net"]((params, last), x), z @ last.W.T + last.b, rtol=1e-5)


def test_a_loss_of_your_own_is_checked_trained_by_and_asked_for_curvature(capsys):
    names = run("own-loss.md", capsys, units=1)
    samples = names["log_cosh_sample"](jax.random.key(5), jnp.zeros((20_000, 1)))
    # The distribution function of 1 / (pi cosh r) at 1.
    assert abs((samples < 1).mean() - 2 / np.pi * np.arctan(np.e)) < 0.01
    with pytest.raises(ValueError, match=r"^quantile: has no sample; use curvature\.empirical"):
        jn.curvature.kfac(
            names["net"], names["quantile"](0.5), names["params"], names["x"], names["y"], jax.random.key(0)
        )


def test_a_combinator_of_your_own_goes_through_every_walk(capsys):
    names = run("own-combinator.md", capsys)
    net, params, pair = names["net"], names["params"], names["pair"]
    one = net.made.args[0].made.args[0]
    distance = (one(params[0], pair[0]) - one(params[0], pair[1])) ** 2
    np.testing.assert_allclose(net(params, pair), distance @ params[2].W.T + params[2].b, rtol=1e-5)


@pytest.mark.parametrize(
    ("block", "mistake", "mended"),
    [
        (0, " / len(x)", ""),
        (1, "jnp.exp(x)\n", "jnp.exp(x - x.max(axis=1, keepdims=True))\n"),
        (2, "(m // 2,)", "(pl.cdiv(m, 2),)"),
    ],
    ids=["layer", "custom_vjp", "Pallas kernel"],
)
def test_each_mistake_on_the_page_of_checks_is_told_as_written_and_mended_it_passes(block, mistake, mended):
    programs = programs_of("check-a-derivative.md")
    names = {"jax": jax, "jnp": jnp, "jn": jn}
    program, written = programs[block]
    with pytest.raises(AssertionError) as error:
        exec(program, names)
    assert str(error.value) == written.strip()
    assert program.count(mistake) == 1
    exec(program.replace(mistake, mended), names)
