"""`jaxnet draw`: a run's network as a picture, and an example of its data at play."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.experiment.commands import reading
from jaxnet.experiment.commands.draw import DrawConfig, draw
from jaxnet.experiment.console.errors import BadInput
from jaxnet.experiment.data.problem import loss_of
from jaxnet.experiment.options.train_config import TrainConfig
from jaxnet.experiment.storage import folder, model_file
from jaxnet.experiment.storage.model import Model, Origin

TEXT = "the cat sat on the mat, and the dog sat on the log\n" * 20


def made(where, **options):
    """A run as `jaxnet train` leaves it, but for the training."""
    config = TrainConfig(out=str(where), **options)
    examples = reading.prepared(config)
    problem, parts = examples.problem, examples.parts
    network = config.network(parts.train.x.shape[1:], problem.outputs, problem.output_activation)
    params = jax.device_get(jax.jit(network.net.init)(jax.random.key(0)))
    origin = Origin(examples.fingerprint, config.stream, config.seed)
    model = Model(network, params, parts.scaling, problem, parts.features, origin, parts.treatments)
    where.mkdir()
    folder.write_json(where / folder.CONFIG, dataclasses.asdict(config))
    content = model_file.content(model._replace(tokens=examples.tokens))
    (where / model_file.FILE).write_bytes(content)
    return examples, model


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    where = tmp_path_factory.mktemp("drawn") / "iris"
    return where, *made(where, data="iris", hidden=(8,))


def signals(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="signals">(.*?)</script>', text, re.DOTALL)[1])


def test_alone_it_writes_the_networks_graph_with_its_loss_into_the_run(iris, capsys):
    where, _, _ = iris
    draw(DrawConfig(str(where)))
    picture = (where / "network.svg").read_bytes()
    assert capsys.readouterr().out == f"written    {where}/network.svg ({len(picture):,} bytes)\n"
    title = next(ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}title")).text
    assert title == "dense → relu → dense → softmax cross entropy with integer labels"
    with pytest.raises(BadInput) as error:
        draw(DrawConfig(str(where)))
    expected = f"--out {where}/network.svg: exists already; choose another name, or replace it with --overwrite"
    assert str(error.value) == expected
    draw(DrawConfig(str(where), overwrite=True))


def test_a_page_has_the_numbers_of_an_example_of_the_test_part(iris, tmp_path, capsys):
    where, examples, model = iris
    page = tmp_path / "page.html"
    draw(DrawConfig(str(where), html=str(page), example=2))
    assert capsys.readouterr().out == f"written    {page} ({page.stat().st_size:,} bytes)\n"
    assert not (tmp_path / "network.svg").exists()
    told = signals(page)
    x, y = examples.parts.test.x.read(slice(2, 3), np.float64), examples.parts.test.y[2:3]
    net, params = model.network.net, jax.tree.map(lambda leaf: leaf.astype(np.float64), model.params)

    def loss(params, x):
        return loss_of(model.problem).forward(net.apply(params, x), jnp.asarray(y))[0]

    with jax.enable_x64(True):
        value, (of_params, dx) = jax.device_get(jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x))
    assert told["loss"]["value"] == pytest.approx(float(value), rel=1e-12)
    assert told["loss"]["target"] == model.problem.classes[y[0]]
    np.testing.assert_allclose(told["input"]["dx"]["values"], dx[0], rtol=1e-12, atol=1e-15)
    norms = [of["gradient"] for layer in told["layers"] for of in layer["parameters"]]
    np.testing.assert_allclose(norms, [np.linalg.norm(leaf) for leaf in jax.tree.leaves(of_params)], rtol=1e-12)


def test_images_in_a_row_are_shown_as_images_values_in_their_units_and_texts_by_their_tokens(tmp_path):
    page = tmp_path / "page.html"
    made(tmp_path / "digits", data="digits")
    draw(DrawConfig(str(tmp_path / "digits"), html=str(page)))
    assert signals(page)["input"]["x"]["shape"] == [8, 8]
    examples, _ = made(tmp_path / "diabetes", data="diabetes")
    draw(DrawConfig(str(tmp_path / "diabetes"), html=str(page), out=str(tmp_path / "net.svg"), overwrite=True))
    assert (tmp_path / "net.svg").exists()
    assert signals(page)["loss"]["target"] == f"{examples.parts.test.y[0, 0]:.4g}"
    (tmp_path / "text.txt").write_text(TEXT)
    small = {"context": 4, "width": 4, "depth": 1, "heads": 2}
    made(tmp_path / "text", data=str(tmp_path / "text.txt"), model="transformer", **small)
    draw(DrawConfig(str(tmp_path / "text"), html=str(page), overwrite=True))
    told = signals(page)
    assert "".join(told["input"]["tokens"]) in TEXT
    assert told["input"]["dx"] is None
    assert told["loss"]["target"] == f"{TEXT[TEXT.index(''.join(told['input']['tokens'])) + 4]!r} after the last token"


def refused(**options):
    with pytest.raises(BadInput) as error:
        draw(DrawConfig(**options))
    return str(error.value)


def test_what_cannot_be_drawn_is_one_line(iris, tmp_path):
    where, _, _ = iris
    run, page = str(where), str(tmp_path / "page.html")
    nowhere = str(tmp_path / "nowhere")
    assert refused(run=nowhere) == f"{nowhere}: no such folder; expected the folder of a finished run"
    assert refused(run=run, example=-1) == "--example: expected an integer of at least 0, got -1"
    assert refused(run=run, example=1) == "--example 1: is for --html; give --html FILE, or leave it out"
    assert refused(run=run, html=page, example=30) == (
        f"--example 30: the test part of {run} has 30 examples; expected 0 to 29"
    )
    (tmp_path / "page.html").write_text("")
    assert refused(run=run, html=page) == (
        f"--html {page}: exists already; choose another name, or replace it with --overwrite"
    )
    far = str(tmp_path / "far" / "page.html")
    assert refused(run=run, html=far) == (
        f"--html {far}: there is no folder {tmp_path}/far; make it, or choose another"
    )
    assert refused(run=run, html=str(tmp_path)) == f"--html {tmp_path}: is a folder; expected the name of a file"


def test_of_a_run_whose_data_are_gone_or_others_it_is_told(iris, tmp_path):
    where, _, _ = iris
    other, page = tmp_path / "other", str(tmp_path / "page.html")
    other.mkdir()
    (other / model_file.FILE).write_bytes((where / model_file.FILE).read_bytes())
    assert refused(run=str(other), html=page) == (f"{other}: holds no run (config.json: No such file or directory)")
    options = json.loads((where / folder.CONFIG).read_text())
    folder.write_json(other / folder.CONFIG, options | {"data": "wine"})
    assert refused(run=str(other), html=page) == (
        f"{other}: --data wine is not what it was trained on any more; restore it from a copy"
    )
