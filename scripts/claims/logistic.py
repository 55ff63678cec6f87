"""S7: with an activation at the output only, the network is no more than logistic regression."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks import report

from claims import ensemble
from claims.ensemble import Lab, Runs, Task, Tuned
from claims.linear_collapse import collapsed
from claims.verdict import Claim, at_most, no_worse
from jaxnet import activations
from jaxnet.experiment.figures.canvas import CLASS_COLOURS
from jaxnet.layer import Layer
from jaxnet.networks import mlp

# Full batch, so that both are after the same minimum. Where the classes are separable, as in breast cancer, logistic
# regression has none: its weights grow for ever, and only the losses can be compared.
# In units of the late epochs.
TIMES, SEPARABLE_TIMES = 50, 15
HIDDEN = 4
# A probability in percent points that nobody would act on.
NEAR = 0.5


def run(lab: Lab) -> Claim:
    """Trains a network with a sigmoid at its output and none inside, beside scikit-learn's logistic regression."""
    iterations, few = TIMES * lab.late, SEPARABLE_TIMES * lab.late
    moons, separable = (ensemble.task(name, lab.seeds) for name in ("moons", "breast_cancer"))
    fits = {
        "moons": partial(_fit, lab, moons, iterations, (HIDDEN,)),
        "regression": partial(_fit, lab, separable, few, ()),
        "network": partial(_fit, lab, separable, few, (HIDDEN,)),
    }
    (net, runs), (_, regression), (_, network) = ensemble.together(fits).values()
    regressions = [_regression(moons, seed) for seed in range(lab.seeds)]
    arms = {"chosen on validation": runs.tuned(), "of the lowest training loss": _lowest(runs)}
    apart = {which: _apart(net, arm, moons, regressions) for which, arm in arms.items()}
    where = f"moons, 2-{HIDDEN}-1, {iterations} iterations"
    rows = [
        at_most(
            f"{where}, rate {which}", "largest difference in probability from scikit-learn's (% points)", values, NEAR
        )
        for which, values in apart.items()
    ]
    quantity = "test loss, logistic regression less the network (nats)"
    pair = [arm.tuned() for arm in (regression, network)]
    losses = [arm.history.test_loss[:, -1] for arm in pair]
    rows.append(no_worse(f"breast cancer, 30-{HIDDEN}-1, {few} iterations", quantity, *losses))
    _draw(lab, moons, arms["of the lowest training loss"], regressions[0])
    return Claim(
        name="logistic",
        source="S7",
        says="with an activation at the output only, the network is no more than logistic regression",
        equations=("sigmoid(W2 (W1 x + b1) + b2) = sigmoid(W' x + b')",),
        method=(
            f"A network with {HIDDEN} hidden units, no activation inside and a sigmoid at its output, beside "
            "scikit-learn's LogisticRegression without a penalty: their probabilities on the test part may differ by "
            f"{NEAR:g} percent points. The rate that is best on validation may stop short of the minimum, so the "
            "rate of the lowest training loss stands beside it. In breast cancer the classes are separable and the "
            "minimum is at infinity; there a logistic regression trained the same way may be no more than 5% worse."
        ),
        rows=tuple(rows),
        why=(
            "Both minimise the same loss over the same functions, and on moons their probabilities differ by "
            + " and by ".join(
                f"{values.mean():.2g} percent points at the rate {which}" for which, values in apart.items()
            )
            + ": what is left is how near to the minimum each has come."
        ),
        figure="logistic",
        legend="The boundary (probability 1/2) of both on the moons of one seed's test part: one straight line.",
        rates={
            "moons": {which: arm.rate for which, arm in arms.items()},
            "breast cancer": {"logistic regression": pair[0].rate, "network": pair[1].rate},
        },
    )


def _lowest(runs: Runs) -> Tuned:
    """The runs at the rate that came nearest to the minimum."""
    reached = np.asarray(runs.history.train_loss[..., -1], np.float64).mean(axis=1)
    return runs.at(int(np.where(np.isfinite(reached), reached, np.inf).argmin()))


def _apart(net, arm, on, regressions):
    """The largest difference in probability over the test part, in percent points, for each seed."""
    z = np.asarray(jax.vmap(net.apply)(arm.params, on.test.x), np.float64)
    by_regression = [r.predict_proba(np.asarray(x))[:, 1:] for r, x in zip(regressions, on.test.x, strict=True)]
    return 100 * np.abs(1 / (1 + np.exp(-z)) - np.stack(by_regression)).max(axis=(1, 2))


def _fit(lab: Lab, on: Task, iterations: int, hidden: tuple[int, ...]) -> tuple[Layer, Runs]:
    net = mlp((on.features, *hidden, 1), activations.identity)
    starts = {"start": ensemble.start(net, lab.seeds)}
    what = "2-layer network without activation" if hidden else "logistic regression"
    return net, ensemble.fit(lab, what, net, on, starts, epochs=iterations, batch_size=None)["start"]


def _regression(on, seed):
    from sklearn.linear_model import LogisticRegression

    x, y = np.asarray(on.train.x[seed], np.float64), np.asarray(on.train.y[seed]).ravel()
    return LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(x, y)


def _draw(lab, on, network, regression):
    figure, axes = report.subplots(1, figsize=(6.4, 4.8))
    x, y = np.asarray(on.test.x[0]), np.asarray(on.test.y[0]).ravel()
    for label, marker in ((0, "o"), (1, "^")):
        points = x[y == label]
        axes.plot(
            *points.T,
            marker,
            color=CLASS_COLOURS[label],
            ms=5,
            mec="white",
            mew=0.5,
            label=("first class", "second class")[label],
        )
    line = collapsed(jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), network.params))
    for (w, b), style, name in (
        ((np.asarray(line.W[0]), float(line.b[0])), {"color": "#D55E00", "lw": 4}, "network without hidden activation"),
        (
            (regression.coef_[0], regression.intercept_[0]),
            {"color": "black", "ls": "--"},
            "scikit-learn's logistic regression",
        ),
    ):
        ends = np.array([x[:, 0].min(), x[:, 0].max()])
        axes.plot(ends, -(w[0] * ends + b) / w[1], label=name, **style)
    axes.set(xlabel="x1 (standard deviations)", ylabel="x2 (standard deviations)", title="moons, test part of seed 0")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    report.save(figure, lab.out, "logistic")
