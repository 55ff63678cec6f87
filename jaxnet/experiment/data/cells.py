"""What a cell of a table says: a number as people write it, a date, a yes or no, or nothing."""

import re
from datetime import UTC, datetime

# Squares of larger numbers overflow.
LARGEST = 1e150
# Of a cell, in lower case: it says nothing. Among the texts of classes these are texts as any other.
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "?", "-", "."}
BOOLEANS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0, "t": 1.0, "f": 0.0, "y": 1.0, "n": 0.0}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_OF_A_DAY = 86_400
# $1,200 and 12%; a comma stands between three digits and three, as nothing else does.
_DECORATED = re.compile(r"([-+]?)\s*[$€£¥]?\s*([-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?)\s*([€%]?)")
_DECIMAL_COMMA = re.compile(r"[^.,]*?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+[^.,]*")


def is_missing(cell: str) -> bool:
    """Whether a cell, without space around it, says nothing."""
    return cell.lower() in MISSING


def plain_number(cell: str) -> float | None:
    """The number that a cell is, as Python reads it, but for underscores."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def number(cell: str, *, decimal_comma: bool = False) -> float | None:
    """The number that a cell is: also with a sign of a currency, commas between thousands, or per cent.

    With `decimal_comma` 1.234,5 is 1234.5.
    """
    if decimal_comma and _DECIMAL_COMMA.fullmatch(cell):
        cell = cell.replace(".", "").replace(",", ".")
    value = plain_number(cell)
    if value is not None:
        return value
    match = _DECORATED.fullmatch(cell)
    if match is None or not any(map(str.isdigit, match[2])) or (match[1] and match[2][0] in "+-"):
        return None
    value = float(match[1] + match[2].replace(",", ""))
    return value / 100 if match[3] == "%" else value


def boolean(cell: str) -> float | None:
    """1 for yes or true, 0 for no or false, in any letters."""
    return BOOLEANS.get(cell.lower())


def days(cell: str) -> float | None:
    """Days since 1970 of a date, or of a date and time, as ISO 8601 writes it; without a zone it is in UTC."""
    # Numbers alone are no dates: 20240131 is a number.
    if len(cell) < len("2024-W01") or cell[4:5] != "-":
        return None
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - EPOCH).total_seconds() / SECONDS_OF_A_DAY
