"""Tables as people have them: what their columns are, and what becomes of them."""

import gzip

import numpy as np
import pytest
from on_disk import refusal

from jaxnet.experiment.data import named
from jaxnet.experiment.data.columns import BOOLEAN, CATEGORY, DATE, NUMBER, Column
from jaxnet.experiment.data.delimited import Selection
from jaxnet.experiment.data.encoding import encoded, treatments_of

ROWS = 30


def csv(columns, separator=","):
    """A file of columns by name, each a list of cells that is repeated."""
    lines = [separator.join(columns)]
    lines += [separator.join(str(cells[row % len(cells)]) for cells in columns.values()) for row in range(ROWS)]
    return "\n".join(lines) + "\n"


def loaded(write, columns, *, selection=Selection(), **options):  # noqa: B008 nobody writes to it
    return named.load(write("a.csv", csv({**columns, "y": ["a", "b"]}, **options)), ("y",), selection)


def test_every_kind_of_column_is_found_out(write):
    numbers = [f"{k}.5" for k in range(7)]
    columns = {
        "plain": numbers,
        "price": ["$1", "$2.50", "12%"],
        "gaps": ["1", "", "NA", "4"],
        "when": ["2024-01-31", "2024-02-01"],
        "paid": ["yes", "No", ""],
        "colour": ["red", "green", "", "blue"],
        "floor": ["K", "1", "2"],
    }
    table = loaded(write, columns)
    assert table.columns == (
        Column("plain"),
        Column("price"),
        Column("gaps"),
        Column("when", DATE),
        Column("paid", BOOLEAN),
        Column("colour", CATEGORY, ("blue", "green", "red")),
        Column("floor", CATEGORY, ("1", "2", "K")),
    )
    nan = np.nan
    expected = [[0.5, 1, 1, 19753, 1, 2, 2], [1.5, 2.5, nan, 19754, 0, 1, 0], [2.5, 0.12, nan, 19753, nan, nan, 1]]
    np.testing.assert_array_equal(table.x.values[:3], expected)


def test_texts_become_features_gaps_are_filled_and_what_training_lacks_has_a_place(write):
    columns = {"colour": ["red", "green", "", "blue"], "size": ["1", "2", "", "4"], "paid": ["yes", "no"]}
    table = loaded(write, columns)
    treatments = treatments_of(table, np.arange(20))
    features = encoded(table, treatments)
    assert features.features == (
        *("colour=blue", "colour=green", "colour=red", "colour other", "colour missing"),
        *("size", "size missing", "paid"),
    )
    expected = [
        [0, 0, 1, 0, 0, 1, 0, 1],
        [0, 1, 0, 0, 0, 2, 0, 0],
        [0, 0, 0, 0, 1, 2, 1, 1],
        [1, 0, 0, 0, 0, 4, 0, 0],
    ]
    np.testing.assert_array_equal(features.x.values[:4], expected)
    # Another file has other texts, at other places, and gaps where training had none.
    kinds = {treatment.name: treatment.kind for treatment in treatments}
    other = loaded(write, {"colour": ["yellow", "red"], "size": ["7"], "paid": [""]}, selection=Selection(kinds=kinds))
    assert other.columns[0].texts == ("red", "yellow")
    np.testing.assert_array_equal(
        encoded(other, treatments).x.values[:2], [[0, 0, 0, 1, 0, 7, 0, 0.5], [0, 0, 1, 0, 0, 7, 0, 0.5]]
    )


def test_rare_texts_share_the_place_of_all_others(write):
    table = loaded(write, {"kind": ["often"] * 13 + ["twice", "rare"], "x": [1, 3]})
    treatment, _ = treatments_of(table, np.arange(ROWS))
    assert (treatment.texts, treatment.features) == (("often",), ("kind=often", "kind other"))
    assert encoded(table, (treatment, _)).x.values[13:15, :2].tolist() == [[0, 1], [0, 1]]
    # So does a gap, where training had none.
    selection = Selection(kinds={"kind": CATEGORY})
    gaps = loaded(write, {"kind": ["", "often"], "x": [1, 3]}, selection=selection)
    assert encoded(gaps, (treatment, _)).x.values[:2, :2].tolist() == [[0, 1], [1, 0]]


def test_columns_that_name_the_rows_are_left_out_unless_they_are_asked_for(write):
    columns = {
        "": range(ROWS),
        "customer_id": [k * k for k in range(ROWS)],
        "name": [f"N{k}" for k in range(ROWS)],
        "nothing": ["", "NA"],
        "x": [1, 2, 5],
    }
    table = loaded(write, columns)
    assert table.features == ("x",)
    assert table.left_out == {
        "index": "is an id: its numbers all differ",
        "customer_id": "is an id: its numbers all differ",
        "name": "names the rows: 30 different texts in 30 rows",
        "nothing": "is empty",
    }
    assert loaded(write, columns, selection=Selection(only=("customer_id", "x"))).features == ("customer_id", "x")


def test_columns_are_chosen_dropped_and_taken_for_names(write):
    columns = {"a": [1, 2], "b": [3, 4], "month": [1, 2, 12]}
    assert loaded(write, columns, selection=Selection(drop=("b",))).features == ("a", "month")
    table = loaded(write, columns, selection=Selection(kinds={"month": CATEGORY}))
    assert table.columns[2] == Column("month", CATEGORY, ("1", "12", "2"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_the_encoding_is_found_out_and_latin_1_is_told(encoding, write):
    text = csv({"größe": [1, 2], "y": ["a", "b"]})
    table = named.load(write("a.csv", text.encode(encoding)), ("y",))
    assert table.features == ("größe",)
    told = "its text is not UTF-8 and was read as Latin-1; save it as UTF-8 if letters look wrong"
    assert table.notes == ((told,) if encoding == "latin-1" else ())


def test_semicolons_come_with_decimal_commas_and_empty_columns_at_the_end_are_nothing(write):
    table = loaded(write, {"x": ["1,5", "1.234,5"], "z": [1]}, separator=";")
    np.testing.assert_array_equal(table.x.values[:2], [[1.5, 1], [1234.5, 1]])
    text = "x,y,,\n" + "1,a,,\n2,b,,\n" * 9
    table = named.load(write("b.csv.gz", gzip.compress(text.encode())), ("y",))
    assert (table.features, table.x.shape) == (("x",), (18, 1))


def test_all_cells_that_do_not_fit_are_told_by_column(write):
    columns = {"a": [k + 0.5 for k in range(26)] + ["x"] * 4, "b": [5, 6] * 14 + [7, "inf"], "y": ["a", "b"]}
    assert refusal(write("a.csv", csv(columns)), ("y",)) == (
        "--data a.csv, column 'a': expected finite numbers, got 'x' in row 27 (line 28), 'x' in row 28 (line 29), "
        "'x' in row 29 (line 30) and 1 more; column 'b': expected finite numbers, got 'inf' in row 30 (line 31); "
        "mend the cells, or give --categorical or --drop with the column"
    )


@pytest.mark.parametrize(
    ("selection", "option"),
    [(Selection(drop=("colour",)), "--drop"), (Selection(only=("colour",)), "--features")],
)
def test_a_column_that_is_not_there_is_named(selection, option, write):
    path = write("a.csv", csv({"color": [1, 2], "y": ["a", "b"]}))
    with pytest.raises(Exception) as error:
        named.load(path, ("y",), selection)
    told = f"{option}: a.csv has no column 'colour'; did you mean color?; its columns are color, y"
    assert str(error.value) == told


def test_plain_numbers_are_what_they_are(write):
    table = loaded(write, {"x": [1, 2], "z": [0.5]})
    assert [column.kind for column in table.columns] == [NUMBER, NUMBER]
    treatments = treatments_of(table, np.arange(ROWS))
    assert encoded(table, treatments) is table
