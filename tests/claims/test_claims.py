"""Every claim from end to end, on a schedule so short that it ends at once: what is judged, written and drawn."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from claims import boundary, columns, dead_units, ensemble, networks, program
from claims.linear_collapse import collapsed
from claims.program import CLAIMS, LessonConfig, lesson
from claims.tanh_vs_sigmoid import CENTRE
from claims.verdict import Interval
from refusals import refused

import jaxnet as jn
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.options.parse import parse

SCHEDULE = {"rates": (0.01, 0.1), "early": 1, "late": 2}
PICTURES = {"boundary.gif", "graph.svg", *(f"{claim}.{kind}" for claim in CLAIMS for kind in ("png", "svg"))}


def test_all_claims_from_end_to_end(tmp_path, monkeypatch, capsys, subtests, without_shape_annotations):
    """Once for all: thirty programs are compiled, and far more slowly where annotations are checked."""
    monkeypatch.delitem(networks.NETWORKS, "digits, 64-32-32-32-10")
    monkeypatch.setattr(ensemble, "COMPILED", {"xla_backend_optimization_level": 0})
    monkeypatch.setattr(boundary, "FRAMES", 3)
    out = tmp_path / "out"
    run = out, {claim.name: claim for claim in lesson(LessonConfig(out=str(out), seeds=2), **SCHEDULE)}
    printed = capsys.readouterr().out
    with subtests.test("files and screen"):
        every_claim_is_measured_drawn_and_written(*run, printed)
    for check in (
        the_report_has_every_figure_row_and_reason,
        the_results_hold_every_number_by_seed,
        what_is_exact_holds_however_short_the_training,
        the_rates_of_each_arm_are_told_and_one_at_an_edge_is_marked,
    ):
        with subtests.test(check.__name__):
            check(*run)


def every_claim_is_measured_drawn_and_written(out, claims, printed):
    assert tuple(claims) == CLAIMS
    assert {path.name for path in out.iterdir()} == {"results.json", "report.md", *PICTURES}
    for path in out.glob("*.png"):
        assert path.read_bytes()[:4] == b"\x89PNG"
    assert (out / "boundary.gif").read_bytes()[:4] == b"GIF8"
    for claim in claims.values():
        assert f"\n{claim.name}: {claim.verdict.upper()}\n  {claim.source}: {claim.says}\n" in printed
        assert f"  why: {claim.why}" in printed
        assert re.search(rf"^{claim.name} +{claim.verdict} +\d+ of {len(claim.rows)}$", printed, re.MULTILINE)
        assert claim.why.endswith(".")
        assert "nan" not in claim.why


def the_report_has_every_figure_row_and_reason(out, claims):
    report = (out / "report.md").read_text()
    for figure in re.findall(r"!\[[^]]*\]\(([^)]+)\)", report):
        assert (out / figure).exists(), figure
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", report, re.MULTILINE | re.DOTALL))
    assert list(sections)[:3] == ["Findings", "The network, and what flows back", "Rows and columns"]
    for claim in claims.values():
        section = sections[claim.name]
        assert section.count("\n| ") == len(claim.rows) + 1
        assert claim.why in section
        assert all(equation in section for equation in claim.equations)
        assert f"[{claim.name}](#{claim.name})" in sections["Findings"]
    assert "(200, 4) of [1]" in sections["The network, and what flows back"]


def the_results_hold_every_number_by_seed(out, claims):
    results = json.loads((out / "results.json").read_text())
    assert results["learning_rates"] == [0.01, 0.1]
    assert {"device", "cores", "jax", "seeds", "seconds"} <= results.keys()
    for name, claim in claims.items():
        told = results["claims"][name]
        assert told["verdict"] == claim.verdict
        for row, written in zip(claim.rows, told["rows"], strict=True):
            assert len(written["by_seed"]) == 2
            interval = Interval.of(np.array(written["by_seed"]))
            np.testing.assert_allclose([written["mean"], *written["interval"]], interval, rtol=1e-12)
            assert written["verdict"] == row.verdict


def what_is_exact_holds_however_short_the_training(out, claims):
    assert claims["activations"].verdict == "holds"
    exact = {
        "zero-init": "difference between rows of W1",
        "dead-units": "change of the killed units' weights",
        "linear-collapse": "|f(x) - (W' x + b')|",
    }
    for name, quantity in exact.items():
        rows = [row for row in claims[name].rows if quantity in row.quantity]
        assert rows
        assert all(row.verdict == "holds" for row in rows), name
    slopes = [row for row in claims["saturation"].rows if "slope" in row.quantity]
    assert len(slopes) == 6
    assert all(row.verdict == "holds" for row in slopes)


def the_rates_of_each_arm_are_told_and_one_at_an_edge_is_marked(out, claims):
    rates = claims["tanh-vs-sigmoid"].rates["digits, 64-32-10"]
    assert rates.keys() == {"tanh", "sigmoid", "sigmoid - 1/2"}
    assert all(rate in SCHEDULE["rates"] for by_time in rates.values() for rate in by_time.values())
    assert re.search(r"^- digits, 64-32-10: tanh: after 1 epochs 0\.1\*", (out / "report.md").read_text(), re.MULTILINE)


def test_killed_units_are_below_0_for_every_example_by_what_is_said():
    on = ensemble.task("digits", 2)
    params = dead_units._killed(on, 2, 0.25)
    z = jnp.einsum("soi,smi->smo", params[0].W, on.train.x) + params[0].b[:, None]
    # float32: z is about 10, rounded at 1e-6.
    np.testing.assert_allclose(z.max(axis=1)[:, : dead_units.KILLED], -0.25, atol=1e-5)
    assert (z.max(axis=1)[:, dead_units.KILLED :] > 0).all()


def test_the_layer_that_centres_is_right(key):
    jn.testing.check_layer(CENTRE, jax.random.normal(key, (5, 3)), key)


def test_a_network_without_activation_collapses(x64, key):
    net = jn.mlp((3, 4, 2), jn.identity)
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(key))
    x = jax.random.normal(key, (6, 3))
    # float64 rounds at 1.1e-16; a dozen terms in another order.
    np.testing.assert_allclose(jn.dense(3, 2).apply(collapsed(params), x), net.apply(params, x), rtol=1e-12)


def test_rows_and_columns_are_the_same_numbers():
    apart = columns.compare(3)
    assert list(apart)[5:] == ["dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1"]
    assert max(apart.values()) < 1e-13


def test_a_difference_between_rows_and_columns_would_be_seen(monkeypatch):
    right = columns.shallow_network_in_rows

    def wrong(*given):
        values = right(*given)
        return {**values, "dZ1": 2 * values["dZ1"]}

    monkeypatch.setattr(columns, "shallow_network_in_rows", wrong)
    apart = columns.compare(2)
    assert apart["dZ1"] == pytest.approx(1.0)
    assert apart["dW1"] < 1e-13


def test_a_wrong_command_line_is_named(capsys):
    text = refused(LessonConfig, ["saturatio"], capsys)
    for name in ("saturatio", "all", *CLAIMS):
        assert f"'{name}'" in text
    assert "--seeds" in refused(LessonConfig, ["training", "--sedes", "3"], capsys)
    with pytest.raises(BadInput) as error:
        parse(LessonConfig, ["--seeds", "1"])
    assert str(error.value) == "--seeds: expected an integer from 2 to 1000, got 1; an interval needs 2"


@pytest.mark.parametrize("keeps", [True, False])
def test_its_compiled_programs_are_kept_unless_told_not_to(keeps, monkeypatch):
    done = []
    monkeypatch.setattr(program, "use_compilation_cache", lambda: done.append("kept"))
    monkeypatch.setattr(program, "lesson", lambda config: done.append(config.what))
    monkeypatch.setattr("sys.argv", ["lesson.py", "saturation", *["--no-compilation-cache"] * (not keeps)])
    program.main()
    assert done == [*["kept"] * keeps, "saturation"]


def test_an_existing_folder_is_left_alone(tmp_path):
    with pytest.raises(BadInput) as error:
        lesson(LessonConfig(out=str(tmp_path)))
    assert str(error.value) == f"--out {tmp_path}: exists already; name another folder or give --overwrite"


def test_after_ctrl_c_what_is_finished_is_there_and_said(tmp_path, monkeypatch, capsys):
    def interrupted(lab):
        raise KeyboardInterrupt

    monkeypatch.setattr("claims.boundary.run", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        lesson(LessonConfig(out=str(tmp_path / "out"), seeds=2), **SCHEDULE)
    assert str(stopped.value) == f"{tmp_path}/out/ holds 1 of 10 claims"
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["claims"]) == ["activations"]
    assert program.CLAIMS[0] == "activations"
