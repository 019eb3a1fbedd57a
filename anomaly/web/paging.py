"""Lists of the API: pages by cursor, in the form that a program accepts, with a tag to ask again by."""

from __future__ import annotations

import base64
import datetime as dt
import difflib
import hashlib
import io
import json
import math
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request, Response

from anomaly.exceptions import UsageError
from anomaly.formats import WRITERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from anomaly.ports import SortKind

JSON = "application/json"
LONGEST_CURSOR = 2_000  # characters
Place = tuple[Any, ...]


def accepted(header: str) -> str:
    """The kind of body that an Accept header asks for, the first it names that is there.

    Raises: HTTPException 406 if it takes none.
    """
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if any(one.replace(" ", "") in ("q=0", "q=0.0") for one in parameters):
            continue
        if kind in ("", "*/*", "application/*"):
            return JSON
        if kind == "text/*":
            return "text/csv"
        if kind in WRITERS:
            return kind
    raise HTTPException(406, f"nothing here is {header[:80]!r}. There are: {', '.join(WRITERS)}.")


def body(request: Request, kind: str, content: bytes, headers: dict[str, str]) -> Response:
    """An answer with a tag, or 304 where the program has it already."""
    tag = f'"{hashlib.sha256(kind.encode() + content).hexdigest()[:32]}"'
    headers = {**headers, "ETag": tag, "Vary": "Accept", "Cache-Control": "private, no-cache"}
    known = [
        one.strip().removeprefix("W/")
        for one in request.headers.get("if-none-match", "").split(",")
    ]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def records(
    request: Request, found: Sequence[Mapping[str, Any]], headers: dict[str, str]
) -> Response:
    """Records as JSON, with a tag."""
    return body(request, JSON, json.dumps(found).encode(), headers)


def written(table: pa.Table, kind: str) -> bytes:
    """A table in this form."""
    file = io.BytesIO()
    WRITERS[kind](table, file)
    return file.getvalue()


def sorts(known: Mapping[str, SortKind]) -> str:
    """The pattern of a `sort` parameter: a column's name, or `-` and its name."""
    return f"^-?({'|'.join(known)})$"


def place(cursor: str | None, asked: Mapping[str, Any], kinds: Sequence[SortKind]) -> Place | None:
    """Where the page before ended: the values by which its last row is known. None: at the beginning.

    Args: asked: what is filtered, and how it is sorted. kinds: of the values.
    Raises: UsageError for a cursor that this list did not give.
    """
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor[:LONGEST_CURSOR].encode("ascii"))
        digest, *values = json.loads(text)
        found = tuple(_value(value, kind) for value, kind in zip(values, kinds, strict=True))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            "cursor: is none that this list gave. Follow the link of the page before, or leave it out."
        ) from error
    if digest != _digest(asked):
        raise UsageError(
            "cursor: belongs to another filter. Ask for the first page of this one, without a cursor."
        )
    return found


def cursor_behind(asked: Mapping[str, Any], values: Place) -> str:
    """What leads to the page behind the row with these values."""
    plain = [value.isoformat() if isinstance(value, dt.datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps([_digest(asked), *plain]).encode()).decode()


def following(request: Request, asked: Mapping[str, Any], values: Place) -> str:
    """The Link header that leads to the page behind the row with these values."""
    target = request.url.remove_query_params(["offset", "cursor"])
    link = target.include_query_params(cursor=cursor_behind(asked, values))
    return f'<{link.path}?{link.query}>; rel="next"'


def _value(value: Any, kind: SortKind) -> float | str | dt.datetime:
    """A value of a cursor as the database compares it.

    Raises: ValueError, TypeError.
    """
    if kind == "number":
        if isinstance(value, bool) or not math.isfinite(value):
            raise ValueError("no number")
        number: float = value
        return number
    if not isinstance(value, str) or "\0" in value:
        raise TypeError("no text")
    value.encode()
    return value if kind == "text" else dt.datetime.fromisoformat(value).astimezone(dt.UTC)


def _digest(asked: Mapping[str, Any]) -> str:
    """What is filtered, whatever the page and its size."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def no_strangers(request: Request) -> None:
    """Refuse what nothing here is called: a misspelt filter must not pass for none.

    Raises: HTTPException 422 with the nearest name.
    """
    known = {one.alias for one in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"Did you mean {near[0]}?"
                if near
                else f"Known: {', '.join(sorted(known)) or 'none'}."
            )
            raise HTTPException(422, f"query.{name[:40]}: is no parameter here. {hint}")
