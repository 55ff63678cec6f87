"""Reading .csv and .tsv files; every mistake is named with its place."""

import gzip

import numpy as np
import pytest
from on_disk import refusal

from jaxnet.experiment.data import named
from jaxnet.experiment.data.delimited import Selection
from jaxnet.experiment.data.posing import pose

TARGET, FINITE = "expected a target in each row", "expected finite numbers"
MEND = "mend the cells, or give --categorical or --drop with the column"
CSV = "height,weight,kind\n1.5,60,cat\n1.25,-2e1,dog\n"


def test_a_csv_file_is_read(write):
    table = named.load(write("a.csv", CSV), ("kind",))
    np.testing.assert_array_equal(table.x.values, [[1.5, 60], [1.25, -20]])
    assert table.y.tolist() == ["cat", "dog"]
    assert table.features == ("height", "weight")
    assert table.targets == ("kind",)


@pytest.mark.parametrize(
    "content",
    [
        CSV.replace("\n", "\r\n"),
        "\ufeff" + CSV,
        CSV.replace(",", " , "),
        CSV + "\n\n",
        '"height",weight,"kind"\n' + CSV[19:],
    ],
    ids=["windows", "byte order mark", "spaces", "blank lines", "quotes"],
)
def test_a_csv_file_may_come_from_elsewhere(content, write):
    table = named.load(write("a.csv", content), ("kind",))
    np.testing.assert_array_equal(table.x.values, [[1.5, 60], [1.25, -20]])
    assert table.features == ("height", "weight")


def test_a_csv_file_may_have_several_targets(write):
    table = named.load(write("a.csv", "a,b,c\n1,2,3\n4,5,6\n"), ("c", "a"))
    np.testing.assert_array_equal(table.y, [[3, 1], [6, 4]])
    assert table.features == ("b",)


def test_a_target_may_be_absent_where_none_is_needed(write):
    table = named.load(write("a.csv", "height,weight\n1,2\n"), ("kind",), with_target=False)
    assert table.y is None


@pytest.mark.parametrize(
    ("content", "targets", "message"),
    [
        ("", ("y",), "a.csv: is empty; expected a line of column names, then a line for each example"),
        ("a,y\n", ("y",), "a.csv: has no rows below the column names"),
        ("a,y\n1,2\n3\n", ("y",), "a.csv, row 2 (line 3): expected 2 cells as in the first line, got 1"),
        ("a,y\n1,2\n\n3,4,5\n", ("y",), "a.csv, row 2 (line 4): expected 2 cells as in the first line, got 3"),
        ("a,y\n1,2\nx,4\n", ("y",), f"a.csv, column 'a': expected finite numbers, got 'x' in row 2 (line 3); {MEND}"),
        (
            "a,y\n1,2\n-inf,2\n",
            ("y",),
            f"a.csv, column 'a': expected finite numbers, got '-inf' in row 2 (line 3); {MEND}",
        ),
        ("a,y\nnan,2\n,3\n", ("y",), "a.csv: no column is left to learn from: 'a' (is empty)"),
        ("a,y\n1,\n", ("y",), f"a.csv, column 'y': {TARGET}, got an empty cell in row 1 (line 2); mend the cells"),
        ("a,y\n1,2\n3,inf\n", ("y",), f"a.csv, column 'y': {FINITE}, got 'inf' in row 2 (line 3); mend the cells"),
        ("a,y\n1,2\n3,x\n5,6\n", ("y",), f"a.csv, column 'y': {FINITE}, got 'x' in row 2 (line 3); mend the cells"),
        ("a,y\n1,2\n", (), "--target: a.csv needs a target column; its columns are a, y"),
        (
            "height,price\n1,2\n",
            ("prize",),
            "--target: a.csv has no column 'prize'; did you mean price?; its columns are height, price",
        ),
        ("y\n1\n", ("y",), "a.csv: expected at least one column beside the target"),
        (
            "a\x89PNG,y\n1,2\n",
            ("y",),
            r"a.csv, line 1: expected names of columns, got the control character '\x89'; save it as text",
        ),
        ("a,a\n1,2\n", ("a",), "a.csv, line 1: expected a name of its own for every column, got 'a' twice"),
        (
            "a,,y\n1,2,3\n",
            ("y",),
            "a.csv, line 1: expected a name of its own for every column, got no name for column 2",
        ),
        (
            'a,y\n1,"2\n',
            ("y",),
            "a.csv, from line 2 on: expected values separated by commas, but a quoted cell is not closed",
        ),
        (
            "a,y\n1e200,2\n",
            ("y",),
            f"a.csv, column 'a': expected numbers up to 1e+150, got '1e200' in row 1 (line 2); {MEND}",
        ),
        (
            "a,y\n1,0\n1,NA\n1,0\n1,0\n",
            ("y",),
            f"a.csv, column 'y': {FINITE}, got 'NA' in row 2 (line 3); mend the cells",
        ),
    ],
)
def test_a_broken_csv_file_is_named_with_row_and_column(content, targets, message, write):
    message = message if message.startswith("--target") else f"--data {message}"
    assert refusal(write("a.csv", content), targets) == message


def test_unusable_targets_are_left_out_where_none_are_needed(write):
    table = named.load(write("a.csv", "a,y\n1,\n2,3\n"), ("y",), with_target=False)
    assert table.y is None
    assert table.features == ("a",)


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-16", None),
        ("utf-16-le", "its text has no mark and was read as UTF-16"),
        ("utf-16-be", "its text has no mark and was read as UTF-16"),
        ("latin-1", "its text is not UTF-8 and was read as Latin-1"),
        ("cp1252", "its text is not UTF-8 and was read as Latin-1 as Windows has it"),
    ],
)
def test_an_encoding_that_is_not_marked_is_told(encoding, note, write):
    sign = "£" if encoding == "latin-1" else "€"
    write("a.csv", f"größe,kind\n{sign}1.5,cat\n{sign}2.5,dog\n".encode(encoding))
    table = named.load("a.csv", ("kind",))
    assert table.features == ("größe",)
    np.testing.assert_array_equal(table.x.values, [[1.5], [2.5]])
    assert table.notes == (() if note is None else (f"{note}; save it as UTF-8 if letters look wrong",))


def test_names_of_rows_as_r_writes_them_are_an_index(write):
    """Of the mistakes of columns all are listed at once; a cell more in one row alone is one."""
    lines = [f"{k},{k % 7}.5,{'ab'[k % 2]}" for k in range(30)]
    table = named.load(write("a.csv", "\n".join(["x,y", *lines])), ("y",))
    assert table.features == ("x",)
    assert table.left_out == {"index": "is an id: its numbers all differ"}
    assert table.notes == ("its lines have a cell more than column names; the first one names the row, 'index'",)
    told = refusal(write("a.csv", "\n".join(["x,y", *lines, "1.5,a"])), ("y",))
    assert told == "--data a.csv, row 1 (line 2): expected 2 cells as in the first line, got 3"
    content = "a,b,w,y\n1,2,3,4\nx,2,-1,5\n1,z,3,\n4,2,1,6\n"
    assert refusal(write("a.csv", content), ("y",), Selection(weights="w")) == (
        "--data a.csv, column 'a': expected finite numbers, got 'x' in row 2 (line 3); column 'b': expected finite "
        "numbers, got 'z' in row 3 (line 4); column 'y': expected a target in each row, got an empty cell in row 3 "
        f"(line 4); column 'w': expected weights of 0 or more, got '-1' in row 2 (line 3); {MEND}"
    )


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_tabs_and_gzip_are_told_by_the_name(name, write):
    text = CSV.replace(",", "\t") if ".tsv" in name else CSV
    table = named.load(write(name, gzip.compress(text.encode()) if name.endswith(".gz") else text), ("kind",))
    np.testing.assert_array_equal(table.x.values, [[1.5, 60], [1.25, -20]])
    assert table.y.tolist() == ["cat", "dog"]


def test_what_is_not_as_the_name_says_is_named(write):
    message = "--data a.tsv: expected cells separated by tabs, got commas; save it with tabs, or name it .csv"
    assert refusal(write("a.tsv", CSV), ("kind",)) == message
    packed = gzip.compress(CSV.encode())
    assert refusal(write("a.csv.gz", CSV), ("kind",)) == "--data a.csv.gz: cannot be read (Not a gzipped file (b'he'))"
    message = "--data a.csv.gz: cannot be read (Compressed file ended before the end-of-stream marker was reached)"
    assert refusal(write("a.csv.gz", packed[:-9]), ("kind",)) == message
    assert refusal(write("a.txt.gz", packed)) == (
        "--data a.txt.gz: expected a .csv, .tsv or .npz file or a folder, got .txt.gz"
    )


def test_a_file_that_unpacks_to_more_than_the_machine_holds_is_refused_on_the_way(write, monkeypatch):
    monkeypatch.setattr("jaxnet.experiment.devices.memory._physical", lambda: 2**20)
    many = gzip.compress(b"a,y\n" + 10**6 * b"1,2\n")
    assert len(many) < 2**14
    message = "--data a.csv.gz: (69632, 2) numbers take 0 GiB of memory, and this machine has 0"
    assert refusal(write("a.csv.gz", many), ("y",)).startswith(message)
    line = gzip.compress(b"a,y\n1," + 2**24 * b"0")
    message = "--data b.csv.gz, line 2: expected fewer than 16,777,216 characters in a line"
    assert refusal(write("b.csv.gz", line), ("y",)) == message


def problem_of(write, column, **options):
    """The problem that a column of targets poses, and its numbers."""
    text = "a,y\n" + "".join(f"{row},{cell}\n" for row, cell in enumerate(column))
    problem, table = pose(named.load(write("a.csv", text), ("y",)), **options)
    return problem, table.y


@pytest.mark.parametrize(
    "classes",
    [
        ("01234", "1234", "99999"),
        ("5", "123456789012345678", "123456789012345679"),
        ("761762492475842560", "791557233689870338"),
        ("-1", "0", "00", "000", "+1", "1", "1.0", "1.00", "1e0", "2", "10"),
        ("9007199254740993", "9007199254740993.0", "9007199254740994"),
        ("9", "10", "a"),
        ("1", "2", "K"),
        ("NA", "US", "none"),
    ],
    ids=" ".join,
)
def test_a_class_is_its_text(classes, write):
    """Numbers order the classes where all are numbers; equal ones, and texts, go by their letters."""
    numbers = np.random.default_rng(0).permutation(np.arange(20 * len(classes)) % len(classes))
    problem, y = problem_of(write, [classes[number] for number in numbers])
    assert problem.classes == classes
    np.testing.assert_array_equal(y, numbers)


def test_numbers_to_be_learnt_stay_numbers(write):
    problem, y = problem_of(write, ["1", "2.0", "03"] * 10, loss="half_squared_error")
    assert problem.classes == ()
    np.testing.assert_array_equal(y, np.array([[1], [2], [3]] * 10))


@pytest.mark.parametrize(
    ("column", "row", "expected", "got"),
    [
        (["yes", "no"] * 9 + ["nan"], 19, "texts, as in most rows", "nan"),
        (["nan"] * 5 + ["yes", "no"] * 9, 1, "texts, as in most rows", "nan"),
        (["yes", "no"] * 9 + ["7"], 19, "texts, as in most rows", "7"),
        (["0", "1"] * 9 + ["NA"] * 9, 19, "finite numbers", "NA"),
        (["K", "1", "2"] * 9 + ["n/a"], 28, "finite numbers", "n/a"),
        (["0.5", "1.5"] * 9 + ["x"], 19, "finite numbers", "x"),
        ([str(row) for row in range(30)] + ["x"] * 9, 31, "finite numbers", "x"),
        (["0.5", "1.5"] * 9 + ["nan"], 19, "finite numbers", "nan"),
        (["NA"] + ["0.5", "1.5"] * 9, 1, "finite numbers", "NA"),
    ],
)
def test_a_text_among_numbers_or_a_number_among_texts_is_named_with_its_row(column, row, expected, got, write):
    text = "a,y\n" + "".join(f"1,{cell}\n" for cell in column)
    told = refusal(write("a.csv", text), ("y",))
    start = f"--data a.csv, column 'y': expected {expected}, got {got!r} in row {row} (line {row + 1})"
    assert told.startswith(start)
    assert told.endswith("; mend the cells")


def test_names_of_classes_are_texts_of_a_length_to_be_read(write):
    expected = "expected targets of at most 1000 characters"
    message = f"--data a.csv, column 'kind': {expected}, got {'d' * 40!r} in row 2 (line 3); mend the cells"
    assert refusal(write("a.csv", f"height,kind\n1,cat\n2,{'d' * 1001}\n"), ("kind",)) == message
