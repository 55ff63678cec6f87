"""The page that plays an example: it is whole, says what was computed, and its script runs through."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxnet.experiment.figures.signals import PLAYER, Told, page
from jaxnet.experiment.training.one_example import Parameter, Passed, Way

EVIL = "</script><b>&\u2028"
RNG = np.random.default_rng(0)
VOID = {"meta", "input"}


def passed(name, shape, *parameters, rounds=()):
    return Passed(name, rounds, (RNG.normal(size=shape),), (RNG.normal(size=shape),), parameters)


W = Parameter("W", RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4)))
WAY = Way(
    RNG.normal(size=9),
    (
        passed("dense", (200,), W),
        passed("gelu_tanh", (40, 3), rounds=(("repeat", 2),)),
        passed("conv", (4, 5, 8)),
        Passed("integers", (), (np.arange(3),), (None,), ()),
    ),
    RNG.normal(size=2),
    0.25,
    RNG.normal(size=9),
)
TOLD = Told(EVIL, "a & b", 3, "a loss", "ant", EVIL, [("ant", 0.25), (EVIL, 0.75)], image=(3, 3))


@pytest.fixture(scope="module")
def text():
    return page(WAY, TOLD)


def signals(text):
    return json.loads(re.search(r'<script type="application/json" id="signals">(.*?)</script>', text, re.DOTALL)[1])


class Tags(HTMLParser):
    """Asks that what is opened is closed, and keeps the attributes and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_it_is_html_with_a_language_a_title_and_ids_of_their_own(text):
    assert text.startswith('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n')
    tags = Tags(text)
    ids = [value for name, value in tags.attributes if name == "id"]
    assert len(ids) == len(set(ids)) == 8
    assert text.count("<title>") == 1
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in text
    assert "<b>" not in text


def test_it_asks_nobody_for_anything(text):
    assert not {"src", "href", "action", "style"} & {name for name, _ in Tags(text).attributes}
    assert not re.search(r"//\w|url\(|@import|\bimport\b|fetch|XMLHttp|WebSocket|eval\(", text)
    assert "default-src 'none'" in text


def test_it_has_a_look_for_the_dark_and_none_that_moves_where_that_is_asked_for(text):
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media (prefers-reduced-motion: reduce) { *, .dot { transition: none !important; } }" in text
    assert 'matchMedia("(prefers-reduced-motion: reduce)")' in text


def test_its_numbers_are_those_that_were_computed(text):
    told = signals(text)
    assert told["example"] == 3
    assert told["input"]["x"]["shape"] == [3, 3]
    assert told["input"]["tokens"] is None
    of = told["loss"]
    assert (of["value"], of["target"], of["predicted"]) == (0.25, "ant", EVIL)
    assert of["probabilities"] == [{"name": EVIL, "value": 0.75}, {"name": "ant", "value": 0.25}]
    dense, gelu, conv, integers = told["layers"]
    assert [dense["name"], gelu["name"], gelu["round"]] == ["dense", "gelu tanh", "repeat, round 2"]
    for layer, way in zip(told["layers"], WAY.layers, strict=True):
        arrays = zip((*layer["y"], *layer["dy"]), [*way.y, *(dy for dy in way.dy if dy is not None)], strict=True)
        for signal, array in arrays:
            assert (tuple(signal["shape"]), signal["size"]) == (array.shape, array.size)
            assert signal["norm"] == np.linalg.norm(array.ravel())
            assert (signal["least"], signal["most"]) == (array.min(), array.max())
            assert signal["values"] == array.ravel()[:6].tolist()
    norm, gradient = (float(np.linalg.norm(array.ravel())) for array in (W.value, W.gradient))
    assert dense["parameters"] == [{"name": "W", "shape": [5, 4], "norm": norm, "gradient": gradient}]
    assert integers["dy"] == []
    # Long strips are evenly spaced numbers of all; channels have maps of their own.
    (strip,) = dense["y"][0]["maps"]
    assert (len(strip["columns"]), strip["columns"][0], strip["columns"][-1]) == (96, 0, 199)
    np.testing.assert_allclose(strip["numbers"][0], WAY.layers[0].y[0][strip["columns"]], rtol=5e-4)
    assert (len(gelu["y"][0]["maps"][0]["rows"]), len(conv["dy"][0]["maps"])) == (32, 6)
    np.testing.assert_allclose(conv["dy"][0]["maps"][5]["numbers"], WAY.layers[2].dy[0][..., 5], rtol=5e-4)


def test_a_text_is_told_by_its_tokens_and_has_no_derivative():
    told = signals(page(WAY._replace(x=np.arange(3), dx=None), TOLD._replace(tokens=["a", "<", "b"], image=None)))
    assert told["input"] == {"tokens": ["a", "<", "b"], "x": None, "dx": None}


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed")
def test_in_a_browser_the_script_plays_through_forward_and_back(text, tmp_path):
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    options += "--disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom"
    place = f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/page.html#playing"
    done = subprocess.run(
        ["chromium", *options.split(), *place], capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    # An input, four layers and a loss; forward to this, and back.
    assert re.search(r'<html lang="en" data-step="10" data-state="done">', done.stdout)
    assert "step 11 of 11: backward, input" in done.stdout
    assert len(re.findall(r'<article class="[^"]*\bback-seen\b', done.stdout)) == 6
    assert "<b>" not in done.stdout


def test_its_parts_are_readable_and_in_the_package():
    assert sorted(path.name for path in PLAYER.iterdir()) == ["player.css", "player.html", "player.js"]
    for path in PLAYER.iterdir():
        assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 120
