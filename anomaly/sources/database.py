"""Somebody else's database: read in chunks, in read-only transactions, never written to."""

from __future__ import annotations

import datetime as dt
import math
import re
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from anomaly.exceptions import DataError, SettingsError, SourceError
from anomaly.months import zone
from anomaly.settings import secret_in
from anomaly.sources.calendars import OPTIONAL, REQUIRED
from anomaly.sources.cleaning import Checks, Cleaner, Raw, repeated_column
from anomaly.sources.layout import Layout, find_layout
from anomaly.sources.records import Cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection, Engine

    from anomaly.settings import SourceSettings
    from anomaly.sources.batch import Batch

CONNECT_SECONDS = 10
PIECE_ROWS = 1_000  # fetched at once: tuples of more than fit in the processor's cache cost twice
ZONED = re.compile(r"(?:[Zz]|[+-]\d{2}:?\d{2})$")
# Wall-clock times and text are bounded this much earlier in SQL, and exactly once they are parsed.
MARGIN = dt.timedelta(days=1)
# Numbers below each limit are seconds, milli-, micro- or nanoseconds since 1970.
EPOCH_UNITS = ((1e11, 1), (1e14, 10**3), (1e17, 10**6), (math.inf, 10**9))
HOUR, DAY = 3_600, 86_400
MYSQL = ("mysql", "mariadb")

TimeKind = Literal["aware", "naive", "text", "number"]


@dataclass(frozen=True, slots=True)
class _Time:
    """How a source writes times.

    per_second: units in a second, of numbers. wall: times carry no zone.
    """

    kind: TimeKind
    per_second: int = 1
    wall: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    """What is read. label: its name in messages."""

    label: str
    rows: sa.FromClause
    layout: Layout

    def column(self, name: str) -> sa.ColumnElement[Any]:
        """One of its columns, by name, whatever that name holds."""
        return self.rows.c[name]


def read_sql(
    settings: SourceSettings,
    since: dt.datetime | None,
    until: dt.datetime | None,
    *,
    step: int = HOUR,
    grid_timezone: str = "UTC",
    checks: Checks | None = None,
) -> Iterator[Batch]:
    """Read a table or query in chunks of settings.chunk_rows, with a server-side cursor.

    Rows of events are counted, or their values summed, in SQL: onto the steps of the grid where
    its steps begin at whole UTC multiples, else onto finer ones that add up to them.

    Args: since: aware; rows before it are not read, nor are rows without a time (None: all are).
            For events it is moved back to the start of its step, which is counted anew.
        until: aware; later rows are set aside as `future_time` (None: none are).
        step, grid_timezone: the grid on which events are counted.
        checks: more of what rows are held against; its timezone gives way to settings.timezone.
    Raises: SourceError if the database is away, refuses the password or the query;
        DataError if the table or a column is not there, naming what is;
        SettingsError if settings do not say what to read.
    """
    where = _address(settings)
    checks = replace(checks or Checks(), timezone=settings.timezone)
    if until is not None:
        checks = replace(checks, now=int(until.timestamp()))
    with _reading(where, settings) as connection:
        target = _target(connection, settings)
        time = _time_kind(connection, target)
        width = _width(step, grid_timezone, settings.timezone) if settings.events else 1
        statement = _statement(connection.dialect.name, target, time, width, settings.events)
        # Where no row has a time there is none to be read by it.
        if since is not None and time is not None:
            start = int(since.timestamp()) // width * width
            checks = replace(checks, start=start)
            statement = statement.where(_bound(target, time, start, settings.timezone))
        wall = time is not None and time.wall
        yield from _batches(connection, statement, target, wall, Cleaner(checks), settings)


def source_clock(settings: SourceSettings) -> dt.datetime:
    """What time it is by the source's own clock. Raises: as `read_sql`."""
    where = _address(settings)
    with _reading(where, settings) as connection:
        now = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"
        if connection.dialect.name != "sqlite":
            now = "SELECT CURRENT_TIMESTAMP"
        said: dt.datetime | str = connection.execute(sa.text(now)).scalar_one()
    when = dt.datetime.fromisoformat(said) if isinstance(said, str) else said
    return when.replace(tzinfo=when.tzinfo or dt.UTC)  # MySQL's session is set to UTC


def read_events(settings: SourceSettings) -> Iterator[dict[str, Cell]]:
    """The rows of the table or query that holds events, by column; the first row read is row 1.

    Raises: as `read_sql`.
    """
    asked = settings.model_copy(
        update={"table": settings.calendar_table, "query": settings.calendar_query}
    )
    with _reading(_address(asked), asked) as connection:
        if asked.query is not None:
            label, (rows, present) = "calendar_query", _query(connection, asked.query)
        else:
            label = str(asked.table)
            rows, present = _table(connection, label)
        for column in REQUIRED:
            if column not in present:
                raise DataError(
                    f"{label}: there is no column {column!r}, only {', '.join(present[:20])}. Give "
                    "[source] calendar_query a SELECT that names one so."
                )
        names = [name for name in (*REQUIRED, *OPTIONAL) if name in present]
        found = connection.execute(sa.select(*(rows.c[name] for name in names)))
        for number, row in enumerate(found, start=1):
            yield {
                name: Cell(_text(cell), label, number, name)
                for name, cell in zip(names, row, strict=True)
            }


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return cell.isoformat() if isinstance(cell, dt.date) else str(cell).strip()


def _batches(
    connection: Connection,
    statement: sa.Select[Any],
    target: _Target,
    wall: bool,
    cleaner: Cleaner,
    settings: SourceSettings,
) -> Iterator[Batch]:
    if connection.dialect.name == "sqlite":
        # Text that is not UTF-8 must not end the reading: it is judged row by row.
        driver: Any = connection.connection.driver_connection
        driver.text_factory = bytes
    first = 0
    for columns in _chunks(connection, statement, settings.chunk_rows):
        yield cleaner.clean(_raw(columns, target, wall, first, settings))
        first += len(columns["observed_at"])


def _chunks(
    connection: Connection, statement: sa.Select[Any], size: int
) -> Iterator[dict[str, pa.Array]]:
    """The statement's rows as columns, at most `size` rows at once, from a server-side cursor.

    The driver's own cursor: SQLAlchemy's rows take three times as long as the driver's tuples.
    """
    compiled = statement.compile(connection)
    driver: Any = connection.connection.driver_connection
    parameters: Any = compiled.params
    if compiled.positiontup is not None:
        parameters = [compiled.params[name] for name in compiled.positiontup]
    with closing(_streaming(connection.dialect.name, driver)) as cursor:
        cursor.execute(compiled.string, parameters)
        names = [column.name for column in statement.selected_columns]
        pieces: list[list[pa.Array]] = []
        rows = 0
        while piece := cursor.fetchmany(PIECE_ROWS):
            pieces.append([_array(cells) for cells in zip(*piece, strict=True)])
            rows += len(piece)
            if rows >= size:
                yield _joined(names, pieces)
                pieces, rows = [], 0
        if pieces:
            yield _joined(names, pieces)


def _streaming(dialect: str, driver: Any) -> Any:
    """A cursor that holds no more rows than are asked for."""
    if dialect == "postgresql":
        return driver.cursor(name="anomaly")
    if dialect == "mysql":
        from pymysql.cursors import SSCursor  # noqa: PLC0415  (an extra)

        return driver.cursor(SSCursor)
    return driver.cursor()


def _joined(names: list[str], pieces: list[list[pa.Array]]) -> dict[str, pa.Array]:
    joined = {}
    for place, name in enumerate(names):
        arrays = [piece[place] for piece in pieces]
        kinds = {array.type for array in arrays} - {pa.null()}
        if len(kinds) > 1:
            joined[name] = _array([cell for array in arrays for cell in array.to_pylist()])
        else:
            kind = next(iter(kinds), pa.null())
            joined[name] = pa.concat_arrays(
                [array if array.type == kind else array.cast(kind) for array in arrays]
            )
    return joined


def _raw(
    columns: dict[str, pa.Array],
    target: _Target,
    wall: bool,
    first: int,
    settings: SourceSettings,
) -> Raw:
    def named(column: str, default: str) -> pa.Array:
        if column in columns:
            return columns[column]
        return repeated_column(default, len(columns["observed_at"]))

    times = columns["observed_at"]
    if settings.events:
        if pa.types.is_decimal(times.type):  # MySQL's division
            times = times.cast(pa.int64())
        times = times.cast(pa.timestamp("s", None if wall else "UTC"))
    return Raw(
        named("user_id", target.layout.default_user),
        named("metric", target.layout.default_metric),
        times,
        columns["value"],
        lambda place: f"{target.label} row {first + place + 1} as read",
    )


def _array(cells: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # SQLite mixes types within a column
        return pa.array(
            [
                cell if cell is None or isinstance(cell, bytes) else str(cell).encode()
                for cell in cells
            ],
            pa.binary(),
        )


def _statement(
    dialect: str, target: _Target, time: _Time | None, width: int, events: bool
) -> sa.Select[Any]:
    layout = target.layout
    named = {"user_id": layout.user_id, "metric": layout.metric}
    keys = [target.column(name).label(ours) for ours, name in named.items() if name is not None]
    when = target.column(layout.observed_at)
    if not events:
        return sa.select(
            *keys, when.label("observed_at"), target.column(layout.values[0]).label("value")
        )
    step = (_seconds(dialect, when, time, target) // width * width).label("observed_at")
    total = sa.func.sum(target.column(layout.values[0])) if layout.values else sa.func.count()
    # By position: the labels may be the names of other columns, which GROUP BY would prefer.
    places = range(1, len(keys) + 2)
    groups: list[sa.ColumnElement[Any]] = [sa.literal_column(str(place)) for place in places]
    return sa.select(*keys, step, total.label("value")).group_by(*groups)


def _seconds(
    dialect: str, when: sa.ColumnElement[Any], time: _Time | None, target: _Target
) -> sa.ColumnElement[int]:
    """Whole seconds since 1970, of UTC, or of the wall clock where times carry no zone."""
    if time is None:
        return sa.cast(sa.null(), sa.BigInteger)
    if time.kind == "number":
        return sa.cast(sa.func.floor(when / float(time.per_second)), sa.BigInteger)
    if dialect == "sqlite":
        return sa.cast(sa.func.strftime("%s", when), sa.BigInteger)
    if time.kind == "text":
        raise DataError(
            f"{target.label}: column {target.layout.observed_at!r} holds text, which the database "
            "cannot count by time. Give a query that casts it to a timestamp."
        )
    if dialect == "mysql":
        since = sa.func.timestampdiff(sa.text("SECOND"), sa.literal_column("'1970-01-01'"), when)
        return sa.cast(since, sa.BigInteger)
    return sa.cast(sa.func.floor(sa.extract("epoch", when)), sa.BigInteger)


def _bound(target: _Target, time: _Time, start: int, timezone: str) -> sa.ColumnElement[bool]:
    """Rows from `start` (seconds UTC) on, or from somewhat before it."""
    when = target.column(target.layout.observed_at)
    instant = dt.datetime.fromtimestamp(start, dt.UTC)
    if time.kind == "number":
        return when >= start * time.per_second
    if time.kind == "aware":
        return when >= instant
    wall = (instant.astimezone(zone(timezone)) - MARGIN).replace(tzinfo=None)
    return when >= (wall if time.kind == "naive" else wall.date().isoformat())


def _width(step: int, grid_timezone: str, source_timezone: str) -> int:
    """Seconds over which events are joined in SQL, so that no step's border lies within."""
    whole_days = math.gcd(step, DAY)
    offsets = (_offset_grain(name) for name in (grid_timezone, source_timezone))
    return math.gcd(whole_days, *offsets)


def _offset_grain(timezone: str) -> int:
    """The longest time that divides a zone's distances from UTC since 1970; a day for UTC."""
    if timezone == "UTC":
        return DAY
    tz = zone(timezone)
    instants = (
        dt.datetime(year, month, 1, tzinfo=tz) for year in range(1970, 2038) for month in (1, 7)
    )
    offsets = (instant.utcoffset() or dt.timedelta(0) for instant in instants)
    return math.gcd(HOUR, *(int(offset.total_seconds()) for offset in offsets))


def _time_kind(connection: Connection, target: _Target) -> _Time | None:
    """How the source writes times, told from one of them; None if there is none."""
    when = target.column(target.layout.observed_at)
    cell = connection.execute(sa.select(when).where(when.is_not(None)).limit(1)).scalar()
    if cell is None:
        return None
    if isinstance(cell, dt.datetime) and cell.tzinfo is not None:
        return _Time("aware")
    if isinstance(cell, dt.date):  # a datetime is a date too
        return _Time("naive", wall=True)
    if isinstance(cell, (str, bytes)):
        text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        return _Time("text", wall=ZONED.search(text.strip()[10:]) is None)
    return _Time("number", next(per for limit, per in EPOCH_UNITS if abs(cell) < limit))


def _target(connection: Connection, settings: SourceSettings) -> _Target:
    """The table or query to read, with its columns told apart."""
    if settings.query is not None:
        label = "query"
        rows, present = _query(connection, settings.query)
    else:
        label = str(settings.table)
        rows, present = _table(connection, label)
    layout = find_layout(
        label, present, settings.columns, settings.metric, label, events=settings.events
    )
    if layout.wide:
        raise DataError(
            f"{label}: there is no column 'value', only {', '.join(present[:20])}. Map it: "
            "columns = { value = … } in [source], or set events = true to count rows."
        )
    return _Target(label, rows, layout)


def _table(connection: Connection, name: str) -> tuple[sa.FromClause, list[str]]:
    inspector = sa.inspect(connection)
    schema, _, bare = name.rpartition(".")
    if not schema or inspector.has_table(name):
        schema, bare = "", name
    if not inspector.has_table(bare, schema=schema or None):
        there = (
            inspector.get_table_names(schema=schema or None)
            if _has_schema(inspector, schema)
            else []
        )
        there += inspector.get_view_names(schema=schema or None) if there else []
        raise DataError(
            f"{name}: there is no such table in the source, only {', '.join(sorted(there)[:20]) or 'none'}. "
            "Set [source] table to one of them."
        )
    present = [column["name"] for column in inspector.get_columns(bare, schema=schema or None)]
    columns = _columns(present)
    quoted = sa.quoted_name(bare, quote=True)
    table = sa.table(
        quoted, *columns, schema=sa.quoted_name(schema, quote=True) if schema else None
    )
    return table, present


def _has_schema(inspector: sa.Inspector, schema: str) -> bool:
    return not schema or schema in inspector.get_schema_names()


def _query(connection: Connection, query: str) -> tuple[sa.FromClause, list[str]]:
    # Colons would name parameters; the newline ends a comment on the last line.
    text = sa.text(query.strip().rstrip(";").replace(":", r"\:") + "\n")
    probe = sa.select(sa.text("*")).select_from(text.columns().subquery("source")).limit(0)
    present = list(connection.execute(probe).keys())
    return text.columns(*_columns(present)).subquery("source"), present


def _columns(names: Sequence[str]) -> list[sa.ColumnClause[Any]]:
    return [sa.column(sa.quoted_name(name, quote=True)) for name in names]


@contextmanager
def _reading(where: URL, settings: SourceSettings) -> Iterator[Connection]:
    """A connection in a read-only transaction; whatever the database says is translated."""
    errors: tuple[type[Exception], ...] = (SQLAlchemyError, sqlite3.Error, psycopg.Error)
    errors += _mysql_errors(where)
    try:
        engine = _engine(where)
        try:
            with engine.connect().execution_options(**_read_only(where)) as connection:
                yield connection
        finally:
            engine.dispose()
    except errors as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SourceError(
            f"source {_shown(where)}: {said}. Check [source] url, password, "
            f"{'query' if settings.query else 'table'} and rights."
        ) from error


def _engine(where: URL) -> Engine:
    if where.get_backend_name() == "sqlite":
        path = Path(str(where.database)).absolute()
        if not path.exists():
            raise SourceError(f"source {path}: there is no such file. Check [source] url.")
        uri = f"file:{quote(str(path))}?mode=ro"
        return sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True),
            poolclass=sa.pool.NullPool,
        )
    if where.get_backend_name() in MYSQL:
        return _mysql_engine(where)
    return sa.create_engine(
        where.set(drivername="postgresql+psycopg"),
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": CONNECT_SECONDS, "client_encoding": "utf8"},
    )


def _mysql_engine(where: URL) -> Engine:
    engine = sa.create_engine(
        where.set(drivername="mysql+pymysql"),
        poolclass=sa.pool.NullPool,
        connect_args={"connect_timeout": CONNECT_SECONDS, "charset": "utf8mb4"},
    )

    @sa.event.listens_for(engine, "connect")
    def settle(driver: Any, _record: Any) -> None:
        with closing(driver.cursor()) as cursor:
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.execute("SET time_zone = '+00:00'")

    return engine


def _mysql_errors(where: URL) -> tuple[type[Exception], ...]:
    """What the driver raises; it is an extra.

    Raises: SettingsError where it is needed and not installed.
    """
    if where.get_backend_name() not in MYSQL:
        return ()
    try:
        import pymysql  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        raise SettingsError(
            "[source] url: MySQL and MariaDB need their driver: pip install 'anomaly[mysql]'."
        ) from error
    return (pymysql.MySQLError,)


def _read_only(where: URL) -> dict[str, bool]:
    # SQLite's file is opened for reading only.
    return {"postgresql_readonly": True} if where.get_backend_name() == "postgresql" else {}


def _address(settings: SourceSettings) -> URL:
    if (settings.table is None) == (settings.query is None):
        raise SettingsError("[source]: set either table or query.")
    try:
        address = make_url((settings.url or "").replace("postgres://", "postgresql://", 1))
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise SettingsError(
            "[source] url is no address of a database. Write sqlite:///PATH or "
            "postgresql://USER@HOST:PORT/NAME."
        ) from error
    if backend not in ("sqlite", "postgresql", *MYSQL) or not address.database:
        raise SettingsError(
            f"[source] url: {_shown(address)} cannot be read. Use sqlite:///PATH, "
            "postgresql://USER@HOST:PORT/NAME or mysql://USER@HOST:PORT/NAME."
        )
    if settings.password_file is not None:
        address = address.set(password=secret_in(settings.password_file, "[source] password_file"))
    return address


def _shown(where: URL) -> str:
    """The address for a message: no user, no password."""
    host = f"{where.host or 'localhost'}/" if where.get_backend_name() != "sqlite" else ""
    return f"{where.get_backend_name()} {host}{where.database or ''}"
