"""What experiments share: where numbers come from is told in the results and at the foot of each figure."""

import jax
from benchmarks import report

import jaxnet as jn


def test_results_name_the_device_the_processor_and_the_versions():
    told = report.environment()
    assert told["jax"] == jax.__version__
    assert told["jaxnet"] == jn.__version__
    assert told["device"] == jax.devices()[0].device_kind
    assert told["cores"] >= 1
    assert told["processor"]


def test_a_figure_says_at_its_foot_on_what_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_processor", lambda: "A processor")
    monkeypatch.setattr(report.os, "cpu_count", lambda: 2)
    figure, panels = report.subplots(2)
    report.save(figure, tmp_path, "two")
    assert (tmp_path / "two.png").stat().st_size > 0
    (foot,) = figure.texts
    assert foot.get_text() == f"2 cores, A processor; jax {jax.__version__}, jaxnet {jn.__version__}"
    # The line is below all panels, whose labels the layout keeps above it.
    box = foot.get_window_extent()
    assert all(axes.get_tightbbox().y0 > box.y1 for axes in panels)
