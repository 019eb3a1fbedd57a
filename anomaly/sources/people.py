"""Files that say who users are: department, role, zone, country, first and last day."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from anomaly.months import zone
from anomaly.rows import LONGEST_NAME
from anomaly.sources.records import Cell, columns_of, read_records

if TYPE_CHECKING:
    from pathlib import Path

COUNTRY = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class Person:
    """What a file says of a user.

    timezone: IANA name. country: ISO 3166 code of two letters. active_from, active_to: local days,
    active_to exclusive. None: not said.
    """

    user_id: str
    department: str | None = None
    role: str | None = None
    timezone: str | None = None
    country: str | None = None
    active_from: dt.date | None = None
    active_to: dt.date | None = None


def read_users(path: Path) -> list[Person]:
    """Read a CSV or Parquet file of users, one a row; only the column user_id is required.

    Columns other than the fields of Person are passed over: see `passed_over`.
    Raises: SourceError if it cannot be opened; DataError naming row, column and remedy if a cell
        cannot be read, a last day lies before the first, or a user has two rows that differ.
    """
    people: dict[str, Person] = {}
    for cells in read_records(path, required=("user_id",)):
        person = Person(
            _user_id(cells["user_id"]),
            _optional(cells, "department"),
            _optional(cells, "role"),
            _timezone(cells.get("timezone")),
            _country(cells.get("country")),
            _day(cells.get("active_from")),
            _day(cells.get("active_to")),
        )
        if person.active_from and person.active_to and person.active_from > person.active_to:
            raise cells["active_from"].refused(
                f"is after active_to, {person.active_to}. Mend the row."
            )
        if people.setdefault(person.user_id, person) != person:
            raise cells["user_id"].refused("has an earlier row that differs. Leave one out.")
    return list(people.values())


def passed_over(path: Path) -> list[str]:
    """The columns of such a file that say nothing which is known here. Raises: as `read_users`."""
    known = {field.name for field in fields(Person)}
    return [name for name in columns_of(path) if name not in known]


def _user_id(cell: Cell) -> str:
    if not cell.text or "\0" in cell.text or len(cell.text.encode()) > LONGEST_NAME:
        raise cell.refused(f"is no user id: 1 to {LONGEST_NAME} bytes without NUL.")
    return cell.text


def _optional(cells: dict[str, Cell], column: str) -> str | None:
    return cells[column].text or None if column in cells else None


def _timezone(cell: Cell | None) -> str | None:
    if cell is None or not cell.text:
        return None
    try:
        zone(cell.text)
    except UsageError as error:
        raise cell.refused("is no time zone. Use an IANA name such as Europe/Berlin.") from error
    return cell.text


def _country(cell: Cell | None) -> str | None:
    if cell is None or not cell.text:
        return None
    if COUNTRY.fullmatch(cell.text) is None:
        raise cell.refused("is no country. Use an ISO code of two letters such as DE.")
    return cell.text


def _day(cell: Cell | None) -> dt.date | None:
    if cell is None or not cell.text:
        return None
    try:
        return dt.date.fromisoformat(cell.text.split("T")[0].split(" ")[0])
    except ValueError as error:
        raise cell.refused("is no day. Write 2026-10-31.") from error
