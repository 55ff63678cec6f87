"""CSV and TSV files: cells, names, lines, encodings and gzip that are not what they should be."""

import gzip
import os
import random
from pathlib import Path

from fuzzing import samples
from fuzzing.case import ODD_TEXTS, Case, broken_bytes, broken_text, misplace

# By the name's ending it is told how it is read.
NAMES = (*(6 * ["new.csv"]), "new.tsv", "new.csv.gz", "new.tsv.gz", "NEW.CSV")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")
ENDS = ("\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n\r", " \n", "")
SEPARATORS = (",", ",", ",", ",", ", ", ";", "\t", "|", ",,")
LARGE = ("1e150", "-1e150", "1e-320", "5e-324", "1e15", "1e308", "-1e200", "123456789012345678901234567890")


def make(rng: random.Random, folder: Path) -> Case:
    """A table to train on, or to predict for, in a folder."""
    name = rng.choice(NAMES)
    path = folder / name
    path.write_bytes(_table(rng, name))
    if rng.random() < 0.12:
        misplace(rng, path)
    elif rng.random() < 0.01:
        path.unlink()
        os.mkfifo(path)
    if rng.random() < 0.45:
        run = rng.choice((samples.RUN, samples.NUMBERS))
        samples.copy(folder, run)
        part = ["--part", rng.choice(("train", "test", "all"))] if rng.random() < 0.1 else []
        return Case("predict.py", [run, "--data", name, *part])
    options = ["--data", name, "--target", samples.TARGET, "--hidden", "2", "--epochs", "1", "--out", "made"]
    if rng.random() < 0.2:
        losses = "half_squared_error", "softmax_cross_entropy", "binary_cross_entropy"
        options += ["--loss", rng.choice((*losses, "huber_loss", "poisson_nll_loss", "sigmoid_focal_loss"))]
    if rng.random() < 0.3:
        options += ["--scale", rng.choice(("range", "none"))]
    if rng.random() < 0.1:
        options += ["--target", rng.choice(("a", "b", samples.TARGET)), samples.TARGET]
    if rng.random() < 0.4:
        options += rng.choice((["--weights", "b"], ["--group", "c"], ["--test", name], ["--class-weights", "balanced"]))
    return Case("train.py", options, ("made",))


def _table(rng, name):
    header, rows = ["a", "b", "c", samples.TARGET], _rows(rng)
    damages = (_odd_cell, _odd_cell, _odd_cell, _odd_name, _ragged_line, _shuffled_names, _odd_column)
    for damage in rng.sample(damages, rng.choice((0, 1, 1, 1, 2, 3))):
        damage(rng, header, rows)
    if rng.random() < 0.1:
        del rows[rng.choice((0, 1, 2, 3, 5, 8)) :]
    usual = "\t" if ".tsv" in name else ","
    separator, end = usual if rng.random() < 0.5 else rng.choice(SEPARATORS), rng.choice(ENDS)
    text = "".join(separator.join(cells) + end for cells in (header, *rows))
    if rng.random() < 0.2:
        text = broken_text(rng, text)
    content = _encoded(text, rng.choice(ENCODINGS))
    if name.endswith(".gz") and rng.random() < 0.9:
        # Some unpack to a thousand times their size, in one line or in many.
        content = gzip.compress(content + rng.choice((b"", b"", b"", 2**25 * b"1", 2**17 * b"1,2,3,ant\n")), 1)
    return broken_bytes(rng, content) if rng.random() < 0.2 else content


def _encoded(text, encoding):
    # What no encoding has, half of a pair, is written as UTF-8 would write it if it did.
    return text.encode(encoding, errors="surrogatepass" if encoding.startswith("utf-8") else "replace")


def _rows(rng):
    """As many of each class, or numbers, for a target."""
    many = rng.choice((10, 30, 30, 36))
    kinds = rng.choice(
        (
            samples.CLASSES,
            samples.CLASSES[:2],
            ("0", "1"),
            (r"$\frac", "<b>&"),
            ("日本", "x" * 900),
            ("01234", "1234", "1234.0"),
            ("K", "1", "2"),
            (str(2**53), str(2**53 + 1)),
            ("NA", "US"),
            ("yes", "0"),
        )
    )
    numbers = rng.random() < 0.3
    rows = []
    for row in range(many):
        target = f"{rng.gauss(0, 1):.3f}" if numbers else kinds[row % len(kinds)]
        rows.append([*(f"{rng.gauss(0, 1):.3f}" for _ in range(3)), target])
    return rows


def _odd_cell(rng, header, rows):
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = rng.choice((*ODD_TEXTS, *LARGE))


def _odd_name(rng, header, rows):
    header[rng.randrange(len(header))] = rng.choice((*ODD_TEXTS, "a", "b"))


def _ragged_line(rng, header, rows):
    row = rng.choice([header, *rows])
    if rng.random() < 0.5:
        del row[rng.randrange(len(row))]
    else:
        row.insert(rng.randrange(len(row)), rng.choice(("1", "", "x" * 140_000)))


def _shuffled_names(rng, header, rows):
    rng.shuffle(header)


def _odd_column(rng, header, rows):
    column, value = rng.randrange(4), rng.choice((*LARGE, "1", "", "ant", None))
    for number, row in enumerate(rows):
        row[column : column + 1] = [str(number) if value is None else value]
