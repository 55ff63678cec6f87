"""The figures of a run: what is drawn in them, and that its parts are told apart."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxnet.experiment.data.problem import Problem
from jaxnet.experiment.figures import canvas, curves
from jaxnet.experiment.training.position import Epoch

PROBLEM = Problem._make(("a", "b") if name == "classes" else None for name in Problem._fields)


@pytest.fixture
def drawn(monkeypatch):
    """The figures, which are not saved."""
    kept = []
    monkeypatch.setattr(curves, "save", lambda plt, figure, path: kept.append(figure))
    yield kept
    plt.close("all")


def test_the_epoch_whose_parameters_are_kept_is_marked_in_both_panels(tmp_path, drawn):
    epochs = [Epoch(number, 1 / number, 0.5 + (number - 2) ** 2, number / 10, 1.0) for number in (1, 2, 3)]
    curves.draw_curves(tmp_path / "loss.png", epochs, PROBLEM, epochs[1])
    ((left, right),) = (figure.axes for figure in drawn)
    assert left.lines[-1].get_xydata().tolist() == [[2, 0.5]]
    assert right.lines[-1].get_xydata().tolist() == [[2, 20]]
    named = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert named == ["training", "validation", "parameters kept, epoch 2"]


def test_of_runs_beside_each_other_each_has_its_marker_and_several_seeds_have_bands(tmp_path, drawn):
    seeds = {"train_loss": [0.5, 1.0], "validation_loss": [1.0, 3.0], "validation_metric": [0.25, 0.5]}
    epochs = [Epoch(number, 0.75, 2.0, 0.375, 1.0) for number in (1, 2)]
    several = [epoch._replace(seeds=seeds) for epoch in epochs]
    curves.draw_comparison(tmp_path / "a.png", {"one": epochs, "two": several}, accuracy=True)
    curves.draw_comparison(tmp_path / "a.png", {"one": epochs}, accuracy=True)
    both, one = drawn
    left, right = both.axes
    assert len({line.get_marker() for line in right.lines}) == 2
    extents = [axes.collections[0].get_paths()[0].get_extents() for axes in (left, right)]
    assert [(extent.y0, extent.y1) for extent in extents] == [(1, 3), (25, 50)]
    marked = "marked: where the validation loss is lowest"
    titles = [figure.legends[0].get_title().get_text() for figure in drawn]
    assert titles == [f"{marked}; bands: lowest to highest of a run's seeds", marked]
    assert not any(len(axes.collections) for axes in one.axes)


def test_a_rate_that_changes_has_a_panel_and_several_seeds_have_bands(tmp_path, drawn):
    seeds = {"train_loss": [0.5, 1.0], "validation_loss": [1.0, 3.0], "validation_metric": [0.25, 0.5]}
    epochs = [Epoch(n, 0.75, 2.0, 0.375, 1.0, learning_rate=1 / n, seeds=seeds) for n in (1, 2)]
    curves.draw_curves(tmp_path / "loss.png", epochs, PROBLEM, epochs[1], "training, labels smoothed")
    curves.draw_curves(tmp_path / "loss.png", epochs[:1], PROBLEM, epochs[0])
    (left, right, rate), (_, of_one_epoch) = (figure.axes for figure in drawn)
    assert rate.lines[0].get_xydata().tolist() == [[1, 1], [2, 0.5]]
    ends = [band.get_paths()[0].get_extents().intervaly.tolist() for band in (*left.collections, *right.collections)]
    assert ends == [[0.5, 1], [1, 3], [25, 50]]
    named = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert named == [
        "training, labels smoothed",
        "validation",
        "lowest to highest of 2 seeds",
        "parameters kept, epoch 2",
    ]
    assert len(of_one_epoch.collections) == 1


def test_layers_differ_in_colour_in_dashes_and_in_marker(tmp_path, drawn):
    layers = [{"gradient_norm": 1.0, "update_to_weight": 0.1, "dead": 0.0, "saturated": 0.5} for _ in range(28)]
    epochs = [Epoch(n, 1.0, 1.0, 0.5, 1.0, diagnostics={"layers": layers}) for n in range(1, 31)]
    curves.draw_diagnostics(tmp_path / "diagnostics.png", epochs)
    for axes in drawn[0].axes:
        looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines]
        assert len(set(looks)) == len(layers)
        for one, next_one in itertools.pairwise(looks):
            assert all(np.not_equal(one, next_one))


@pytest.mark.parametrize(("least", "most"), [(0.03, 0.4), (1e-5, 1e2)])
def test_a_logarithmic_axis_has_plain_numbers(least, most):
    _, axes = plt.subplots()
    axes.plot([1, 2], [least, most])
    canvas.log_axis(axes.yaxis)
    axes.figure.canvas.draw()
    texts = [text.get_text() for text in axes.yaxis.get_majorticklabels()]
    low, high = axes.get_ylim()
    seen = [text for text in texts if text and low <= float(text) <= high]
    assert len(seen) > 2
    assert [f"{float(text):g}" for text in seen] == seen
    plt.close("all")
