"""Texts in odd encodings, too short, of ids that are none; options of networks for text; prompts to write after."""

import random
from pathlib import Path

import numpy as np

from fuzzing import samples
from fuzzing.case import ODD_TEXTS, Case, broken_bytes, broken_text

# What is right is as small as can be, and always the same: it is compiled once.
SMALL = {"context": "4", "width": "4", "depth": "1", "batch-size": "1000", "epochs": "1", "checkpoint-every": "0"}
OTHERS = {
    "tokens": ("bytes", "byte", "no.json", "text.txt"),
    "context": ("0", "300"),
    "width": ("0", "2.5"),
    "depth": ("0", str(2**30)),
    "heads": ("2", "0"),
    "positions": ("rotary", "learned"),
    "dropout": ("1", "-0.1"),
    "epoch-steps": ("1", "99", "0"),
    "seeds": ("2",),
    "label-smoothing": ("1",),
    "target": ("kind",),
    "hidden": ("2",),
}
ASKED = {
    "prompt": ("the ", ""),
    "length": ("3", "0", "-1"),
    "temperature": ("0", "0.7", "-1"),
    "top-k": ("1", "0"),
    "seed": ("1", "-1"),
}


def make(rng: random.Random, folder: Path) -> Case:
    """A text to learn, or a network to write with."""
    samples.copy(folder, samples.WRITER)
    if rng.random() < 0.4:
        chosen = rng.sample(list(ASKED), rng.choice((0, 1, 2)))
        given = {name: rng.choice(ASKED[name] if rng.random() < 0.6 else ODD_TEXTS) for name in chosen}
        return Case("generate.py", [samples.WRITER, *_options({"length": "3", **given})])
    data = _write(rng, folder)
    given = {"data": data, "model": rng.choice(("gru", "gru", "gru", "lst", "mlp", "cnn")), **SMALL}
    for name in rng.sample(list(OTHERS), rng.choice((0, 1, 1, 2))):
        given[name] = rng.choice(OTHERS[name] if rng.random() < 0.7 else ODD_TEXTS)
    return Case("train.py", _options(given), ("runs",), may_diverge=True)


def _options(given):
    """No command line holds a NUL; joined by =, a value may begin with a dash."""
    return [f"--{name}={value}".replace("\0", "") for name, value in given.items()]


def _write(rng, folder):
    """A text, or ids, with something wrong in most, and its name."""
    match rng.randrange(6):
        case 0:
            name, content = "text.txt", samples.TEXT.encode()
        case 1:
            name, content = "text.txt", broken_text(rng, samples.TEXT).encode("utf-8", errors="surrogatepass")
        case 2:
            name, content = "text.txt", f"é{samples.TEXT}".encode(rng.choice(("latin-1", "utf-16", "utf-16-le")))
        case 3:
            name, content = (
                rng.choice(("text.txt", "text.dat", "text")),
                samples.TEXT[: rng.choice((0, 1, 50))].encode(),
            )
        case 4:
            return _ids(rng, folder)
        case _:
            (folder / "texts").mkdir()
            (folder / "texts" / rng.choice(("a.txt", "a.md"))).write_text(samples.TEXT)
            return "texts"
    (folder / name).write_bytes(broken_bytes(rng, content) if rng.random() < 0.3 else content)
    return name


def _ids(rng, folder):
    ids = np.frombuffer(samples.TEXT.encode(), np.uint8)
    ids = rng.choice((ids, ids.astype(float), ids.reshape(2, -1), ids.astype(np.int64), ids[:3], ids.astype("U")))
    np.save(folder / "ids.npy", ids)
    if rng.random() < 0.3:
        content = (folder / "ids.npy").read_bytes()
        (folder / "ids.npy").write_bytes(broken_bytes(rng, content))
    return "ids.npy"
