"""Reading .csv, .npz and .npy files; every mistake is named with its place."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from on_disk import refusal

from jaxnet.experiment import data

CSV = "height,weight,kind\n1.5,60,cat\n1.25,-2e1,dog\n"


def test_a_csv_file_is_read(write):
    table = data.load(write("a.csv", CSV), ("kind",))
    np.testing.assert_array_equal(table.x, [[1.5, 60], [1.25, -20]])
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
    table = data.load(write("a.csv", content), ("kind",))
    np.testing.assert_array_equal(table.x, [[1.5, 60], [1.25, -20]])
    assert table.features == ("height", "weight")


def test_a_csv_file_may_have_several_targets(write):
    table = data.load(write("a.csv", "a,b,c\n1,2,3\n4,5,6\n"), ("c", "a"))
    np.testing.assert_array_equal(table.y, [[3, 1], [6, 4]])
    assert table.features == ("b",)


def test_a_target_may_be_absent_where_none_is_needed(write):
    table = data.load(write("a.csv", "height,weight\n1,2\n"), ("kind",), with_target=False)
    assert table.y is None


@pytest.mark.parametrize(
    ("content", "targets", "message"),
    [
        ("", ("y",), "a.csv: is empty; expected a line of column names, then a line for each example"),
        ("a,y\n", ("y",), "a.csv: has no rows below the column names"),
        ("a,y\n1,2\n3\n", ("y",), "a.csv, row 2 (line 3): expected 2 cells as in the first line, got 1"),
        ("a,y\n1,2\n\n3,4,5\n", ("y",), "a.csv, row 2 (line 4): expected 2 cells as in the first line, got 3"),
        ("a,y\n1,2\nx,4\n", ("y",), "a.csv, row 2 (line 3), column 'a': expected a finite number, got 'x'"),
        ("a,y\n1,2\n,4\n", ("y",), "a.csv, row 2 (line 3), column 'a': expected a finite number, got an empty cell"),
        ("a,y\nnan,2\n", ("y",), "a.csv, row 1 (line 2), column 'a': expected a finite number, got 'nan'"),
        ("a,y\n1,2\n-inf,2\n", ("y",), "a.csv, row 2 (line 3), column 'a': expected a finite number, got '-inf'"),
        ("a,y\n1_0,2\n", ("y",), "a.csv, row 1 (line 2), column 'a': expected a finite number, got '1_0'"),
        ("a,y\n1,\n", ("y",), "a.csv, row 1 (line 2), column 'y': expected a target, got an empty cell"),
        ("a,y\n1,2\n3,inf\n", ("y",), "a.csv, row 2 (line 3), column 'y': expected a finite number, got 'inf'"),
        ("a,y\n1,2\n3,x\n5,6\n", ("y",), "a.csv, row 2 (line 3), column 'y': expected a finite number, got 'x'"),
        ("a,y\n1,2\n", (), "--target: a.csv needs a target column; its columns are a, y"),
        (
            "height,price\n1,2\n",
            ("prize",),
            "--target: a.csv has no column 'prize'; did you mean price?; its columns are height, price",
        ),
        ("y\n1\n", ("y",), "a.csv: expected at least one column beside the target"),
        ("a,a\n1,2\n", ("a",), "a.csv, line 1: expected a name of its own for every column, got 'a' twice"),
        ("a,\n1,2\n", ("a",), "a.csv, line 1: expected a name of its own for every column, got no name for column 2"),
        (b"a,y\n\xff\xfe,2\n", ("y",), "a.csv: expected text in UTF-8; save it in that encoding"),
        (
            'a,y\n1,"2\n',
            ("y",),
            "a.csv, from line 2 on: expected comma-separated values, but a quoted cell is not closed",
        ),
        ("a;y\n1;2\n", ("y",), "a.csv: expected cells separated by commas, got semicolons; save it with commas"),
        ("a\ty\n1\t2\n", ("y",), "a.csv: expected cells separated by commas, got tabs; save it with commas"),
        ("a,y\n1e200,2\n", ("y",), "a.csv, row 1 (line 2), column 'a': expected a number up to 1e+150, got '1e200'"),
        (
            "a,y\n1,0\n1,NA\n1,0\n1,0\n",
            ("y",),
            "a.csv, row 2 (line 3), column 'y': expected a finite number, got 'NA'",
        ),
    ],
)
def test_a_broken_csv_file_is_named_with_row_and_column(content, targets, message, write):
    message = message if message.startswith("--target") else f"--data {message}"
    assert refusal(write("a.csv", content), targets) == message


def test_unusable_targets_are_left_out_where_none_are_needed(write):
    table = data.load(write("a.csv", "a,y\n1,\n2,3\n"), ("y",), with_target=False)
    assert table.y is None
    assert table.features == ("a",)


def test_one_hot_targets_are_classes(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), y=np.eye(3)[[0, 2, 1, 2]])
    assert data.load(str(tmp_path / "a.npz")).y.tolist() == ["0", "2", "1", "2"]


def test_an_npz_file_is_read(tmp_path):
    x, y = np.arange(12, dtype=np.float32).reshape(3, 2, 2), np.array([0, 1, 2])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    table = data.load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(table.x, x.reshape(3, 4))
    np.testing.assert_array_equal(table.y, [[0], [1], [2]])
    assert table.features == ("x0", "x1", "x2", "x3")
    np.savez(tmp_path / "b.npz", x=x, y=np.array(["a", "b", "a"]))
    assert data.load(str(tmp_path / "b.npz")).y.tolist() == ["a", "b", "a"]
    np.savez(tmp_path / "c.npz", x=x, y=np.ones((3, 2)))
    assert data.load(str(tmp_path / "c.npz")).targets == ("y0", "y1")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 2))}, "has no array 'y'; expected x and y, got x"),
        ({"z": np.ones((3, 2))}, "has no array 'x'; expected x and y, got z"),
        ({"x": np.ones(3), "y": np.ones(3)}, "expected x of numbers, (examples, features), got float64 (3,)"),
        (
            {"x": np.array([["a", "b"]]), "y": np.ones(1)},
            "expected x of numbers, (examples, features), got <U1 (1, 2)",
        ),
        (
            {"x": np.ones((3, 2)), "y": np.ones(2)},
            "expected y of numbers or texts, (3,) or (3, targets), got float64 (2,)",
        ),
    ],
)
def test_a_broken_npz_file_is_named(arrays, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **arrays)
    assert refusal("a.npz") == f"--data a.npz: {message}"


def test_values_that_are_not_finite_are_named_in_an_npz_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=np.array([[1.0, 2.0], [3.0, np.nan]]), y=np.ones(2))
    assert refusal("a.npz") == "--data a.npz, x, row 2, column 2: expected a finite number, got nan"
    np.savez("a.npz", x=np.ones((2, 2)), y=np.array([1.0, np.inf]))
    assert refusal("a.npz") == "--data a.npz, y, row 2, column 1: expected a finite number, got inf"


def test_pickles_are_never_loaded(tmp_path, monkeypatch, write):
    np.savez(tmp_path / "a.npz", x=np.array([[object()]]), y=np.ones(1))
    expected = "--data a.npz: expected a NumPy .npz archive of plain arrays x and y"
    assert refusal("a.npz") == expected
    assert refusal(write("b.npz", "no archive")) == expected.replace("a.npz", "b.npz")
    np.save(tmp_path / "array.npy", np.ones((3, 2)))
    (tmp_path / "d.npz").write_bytes((tmp_path / "array.npy").read_bytes())
    assert refusal("d.npz") == expected.replace("a.npz", "d.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    assert refusal(write("c.npz", whole[: len(whole) // 2])) == expected.replace("a.npz", "c.npz")


@pytest.mark.parametrize(
    ("source", "targets", "message"),
    [
        ("missing.csv", (), "--data missing.csv: no such file or folder"),
        (
            "digit",
            (),
            "--data digit: no such data set or file; did you mean digits?; expected a .csv or .npz file, "
            "a folder with x.npy and y.npy or IDX files, or one of digits, breast_cancer, iris, wine, diabetes, "
            "linnerud, moons, circles, spirals",
        ),
        ("", (), "--data: expected a file, a folder, or one of " + ", ".join(data.NAMES) + "; got an empty name"),
        ("n" * 300, (), f"--data {'n' * 40}...: cannot be read (File name too long)"),
        ("a.txt", (), "--data a.txt: expected a .csv or .npz file or a folder, got .txt"),
        ("digits", ("y",), "--target: is for .csv files; digits has its own target"),
        ("a.npz", ("y",), "--target: is for .csv files; a .npz file holds x and y"),
        ("folder", ("y",), "--target: is for .csv files; a folder has its own targets"),
    ],
)
def test_a_wrong_source_is_named(source, targets, message, write):
    write("a.txt", "")
    write("a.npz", "")
    write("folder/x", "")
    assert refusal(source, targets) == message


@pytest.mark.parametrize("name", data.NAMES)
def test_every_shipped_data_set_loads(name):
    table = data.load(name)
    assert table.x.dtype == np.float64
    assert table.x.ndim == 2
    assert len(table.x) == len(table.y)
    assert len(table.features) == table.x.shape[1]
    assert np.isfinite(table.x).all()
    if table.y.ndim == 2:
        assert table.y.shape[1] == len(table.targets)


def test_promises_beyond_memory_are_refused_before_there_is_room_made_for_them(write, tmp_path, monkeypatch):
    def header(shape):
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        return file.getvalue()

    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header((10**9, 1000)))
        archive.writestr("y.npy", header((10**9,)))
    assert refusal("a.npz") == "--data a.npz: expected a NumPy .npz archive of plain arrays x and y"
    # What is there, and unpacks to more than the machine has.
    monkeypatch.setattr("jaxnet.experiment.memory._physical", lambda: 2**20)
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((1000, 200)), y=np.zeros(1000))
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", None)
    remedy = "and this machine has 0; a folder with x.npy, and --stream, leaves them on disk"
    assert refusal("b.npz") == f"--data b.npz: (1000, 200) numbers take 0 GiB of memory, {remedy}"
    write("train-images", struct.pack(">4B3I", 0, 0, 8, 3, 1000, 20, 10) + bytes(200_000))
    write("train-labels", struct.pack(">4BI", 0, 0, 8, 1, 1000) + bytes(1000))
    assert refusal(".") == f"--data train-images: (1000, 20, 10) numbers take 0 GiB of memory, {remedy}"


def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.csv")
    assert refusal("pipe.csv", ("y",)) == "--data pipe.csv: expected a file or a folder, got a device or a pipe"
    (tmp_path / "folder").mkdir()
    os.mkfifo("folder/x.npy")
    np.save(tmp_path / "folder" / "y.npy", np.zeros(3))
    assert refusal("folder") == "--data folder/x.npy: expected a whole NumPy .npy file of numbers"


def test_names_of_classes_are_texts_of_a_length_to_be_read(write, tmp_path):
    message = (
        "--data a.csv, row 2 (line 3), column 'kind': expected a target of at most 1000 characters, got 1001 characters"
    )
    assert refusal(write("a.csv", f"height,kind\n1,cat\n2,{'d' * 1001}\n"), ("kind",)) == message
    texts = np.array(["cat", "dog"] * 5)
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 2)), y=texts.astype("U1001"))
    assert refusal("a.npz") == "--data a.npz: expected y of texts of at most 1000 characters, got <U1001"
    np.savez(tmp_path / "b.npz", x=np.zeros((10, 2)), y=np.full(10, 0xD800, np.uint32).view("U1"))
    assert refusal("b.npz") == "--data b.npz: expected y of texts in Unicode, got other characters"


def test_a_header_that_is_odd_is_refused_without_a_warning(tmp_path, monkeypatch):
    """A warning is an error while these tests run."""
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    np.save(file, np.zeros((4, 2)))
    # Python 2's long integers, of which NumPy warns.
    (tmp_path / "x.npy").write_bytes(file.getvalue().replace(b"(4, 2)", b"(4L,2)"))
    np.save(tmp_path / "y.npy", np.arange(4) % 2)
    assert data.load(".").x.shape == (4, 2)
