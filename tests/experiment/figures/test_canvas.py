"""How figures are saved."""

import pytest

from jaxnet.experiment.figures import canvas


def figure_of(plt):
    figure, (left, right) = plt.subplots(1, 2, figsize=(4, 2), layout="constrained", sharey=True)
    left.plot([1, 100], [1, 5], label="a")
    canvas.log_axis(left.xaxis)
    figure.legend(loc="outside right upper")
    right.set(title="b", ylabel="a label that needs room")
    return figure


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_figure_is_saved_as_matplotlib_lays_it_out_and_drawn_once(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    plt = canvas.pyplot()
    with plt.rc_context({"svg.hashsalt": "one"}):
        expected = canvas.picture(figure_of(plt), kind)
        figure = figure_of(plt)
        drawn, draw = [], figure.draw
        monkeypatch.setattr(figure, "draw", lambda renderer: (drawn.append(1), draw(renderer)))
        canvas.save(plt, figure, tmp_path / f"figure.{kind}")
    assert (tmp_path / f"figure.{kind}").read_bytes() == expected
    assert len(drawn) == {"png": 1, "svg": 2}[kind]
    plt.close("all")
