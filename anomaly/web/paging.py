"""Lists of the API: pages by cursor, in the form that a program accepts, with a tag to ask again by."""

from __future__ import annotations

import base64
import difflib
import hashlib
import io
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request, Response

from anomaly.exceptions import UsageError
from anomaly.formats import WRITERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from anomaly.ports import FlagFilter, FlagRow

JSON = "application/json"
LONGEST_CURSOR = 2_000  # characters


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


def written(table: pa.Table, kind: str) -> bytes:
    """A table in this form."""
    file = io.BytesIO()
    WRITERS[kind](table, file)
    return file.getvalue()


def after(filters: FlagFilter, cursor: str | None) -> FlagFilter:
    """The filter of the page that a cursor leads to.

    Raises: UsageError for a cursor that this list did not give.
    """
    if cursor is None:
        return filters
    try:
        text = base64.urlsafe_b64decode(cursor[:LONGEST_CURSOR].encode("ascii"))
        score, flag_id, digest = json.loads(text)
        place = float(score), str(flag_id)
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            "cursor: is none that this list gave. Follow the link of the page before, or leave it out."
        ) from error
    if digest != _digest(filters):
        raise UsageError(
            "cursor: belongs to another filter. Ask for the first page of this one, without a cursor."
        )
    return replace(filters, after=place)


def cursor_behind(filters: FlagFilter, rows: Sequence[FlagRow]) -> str:
    """What leads to the page behind these rows."""
    last = rows[-1].flag
    text = json.dumps([last.score, last.flag_id, _digest(filters)])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _digest(filters: FlagFilter) -> str:
    """What is filtered, whatever the page and its size."""
    asked: dict[str, Any] = {**asdict(filters), "limit": None, "offset": 0, "after": None}
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
