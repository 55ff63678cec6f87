"""What a cell of a table says."""

import pytest

from jaxnet.experiment.data import cells


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.5", 1.5),
        ("-2e1", -20.0),
        ("$1,200", 1200.0),
        ("-$1,200.50", -1200.5),
        ("$-3", -3.0),
        ("1,234,567", 1234567.0),
        ("12%", 0.12),
        ("-0.5 %", -0.005),
        ("€7", 7.0),
        ("7 €", 7.0),
        ("$.5", 0.5),
        ("12,34", None),
        ("1,2345", None),
        ("1_000", None),
        ("--1", None),
        ("-$-1", None),
        ("$", None),
        ("%", None),
        (".", None),
        ("1 2", None),
        ("x", None),
    ],
)
def test_a_number_is_read_as_people_write_it(cell, value):
    assert cells.number(cell) == value


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1,5", 1.5), ("1.234,5", 1234.5), ("-0,25", -0.25), ("€ 1.200,00", 1200.0), ("12,5%", 0.125), ("1.5", 1.5)],
)
def test_with_decimal_commas_points_stand_between_thousands(cell, value):
    assert cells.number(cell, decimal_comma=True) == value


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1970-01-02", 1.0),
        ("1969-12-31T12:00", -0.5),
        ("2024-02-29 06:00:00", 19782.25),
        ("1970-01-01T00:00+01:00", -1 / 24),
        ("2023-02-29", None),
        ("20240131", None),
        ("31.01.2024", None),
        ("abcd-", None),
    ],
)
def test_a_date_is_in_days(cell, value):
    assert cells.days(cell) == value


def test_yes_and_no_are_in_any_letters_and_nothing_has_many_names():
    assert [cells.boolean(cell) for cell in ("Yes", "FALSE", "t", "maybe")] == [1.0, 0.0, 1.0, None]
    assert all(map(cells.is_missing, ("", "NA", "n/a", "NaN", "?", "None")))
    assert not cells.is_missing("0")
