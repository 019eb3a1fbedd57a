"""The JSON API: flags, users and runs, with the filters of the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from anomaly.exceptions import UsageError
from anomaly.formats import WRITERS
from anomaly.months import Month
from anomaly.ports import FlagFilter, WebStore
from anomaly.web import paging, views
from anomaly.web.access import needs

LARGEST_NUMBER = 2**31 - 1  # PostgreSQL's INTEGER ends here
MonthText = Annotated[str | None, Query(description="A month such as 2026-10.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="At most so many rows.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="Leaves out so many rows first.")]
Cursor = Annotated[
    str | None, Query(description="Where the page before ended; its Link header has it.")
]
Number = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
RunNumber = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)]
Severity = Literal["low", "medium", "high", "critical"]
Status = Literal["open", "acknowledged", "closed"]
Kind = Literal["burst", "silence", "shift", "drift", "new", "combination"]
Verdict = Literal["true", "false_alarm", "expected", "new_normal"]


class Problem(BaseModel):
    """What was wrong, where, and what to do next."""

    error: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Something asked for cannot be, such as month 13"},
    401: {"model": Problem, "description": "No token, or one that opens nothing"},
    403: {"model": Problem, "description": "The token's role does not do"},
    413: {"description": "The body is larger than 1 MiB", "content": {"text/plain": {}}},
    422: {"model": Problem, "description": "A parameter is of another kind or out of its range"},
    503: {"model": Problem, "description": "The database is away"},
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is none of this name"}
}
FORMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {} for kind in WRITERS if kind != paging.JSON}},
    304: {"description": "Nothing changed since the answer with this tag"},
    406: {"model": Problem, "description": "The Accept header takes none of the forms there are"},
}
# Describes how to authenticate; `needs` does it.
BEARER = HTTPBearer(auto_error=False, description="anomaly token create NAME --role reader")


def router(store: WebStore) -> APIRouter:
    """Serves /api/v1."""
    routes = APIRouter(
        prefix="/api/v1",
        dependencies=[Depends(needs("reader")), Depends(BEARER), Depends(paging.no_strangers)],
        responses=PROBLEMS,
    )

    @routes.get("/flags", response_model=list[dict[str, Any]], responses=FORMS)
    def flags(
        request: Request,
        month: MonthText = None,
        user: str | None = None,
        metric: str | None = None,
        severity: Severity | None = None,
        status: Status | None = None,
        kind: Kind | None = None,
        label: Verdict | None = None,
        assignee: str | None = None,
        suppressed: bool | None = None,
        limit: Limit = 100,
        offset: Offset = 0,
        cursor: Cursor = None,
    ) -> Response:
        """Flags as `anomaly flags export` gives them, the highest score first.

        As JSON, CSV or Parquet by the Accept header. `Link` leads to the next page, and
        `X-Total-Count` says how many there are; with `If-None-Match`, 304 where nothing changed.
        """
        form = paging.accepted(request.headers.get("accept", ""))
        chosen = FlagFilter(
            checked(month), user, metric, severity, status, kind, label, assignee, suppressed, limit,
            offset,
        )  # fmt: skip
        page = paging.after(chosen, cursor)
        rows = store.flags.select(replace(page, limit=limit + 1))
        headers = {"X-Total-Count": str(sum(store.flags.severities(chosen).values()))}
        if len(rows) > limit:
            behind = paging.cursor_behind(chosen, rows[:limit])
            target = request.url.remove_query_params(["offset", "cursor"])
            link = target.include_query_params(cursor=behind)
            headers["Link"] = f'<{link.path}?{link.query}>; rel="next"'
        if form == paging.JSON:
            records = [views.flag_record(row) for row in rows[:limit]]
            return paging.body(request, form, json.dumps(records).encode(), headers)
        table = store.flags.arrow(page)
        return paging.body(request, form, paging.written(table, form), headers)

    @routes.get("/flags/{flag_id}", responses=MISSING)
    def flag(flag_id: str) -> dict[str, Any]:
        """One flag, with the series that its plot shows; `series` is null where none was kept."""
        try:
            row = store.flags.get(flag_id)
        except UsageError as error:
            raise HTTPException(404, str(error)) from error
        band = store.flags.series(flag_id)
        return {**views.flag_record(row), "series": band and views.series_record(band)}

    @routes.get("/users")
    def users(
        month: Annotated[str, Query(description="A month such as 2026-10.")],
        user: str | None = None,
        cohort: str | None = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> list[dict[str, Any]]:
        """Users ranked by how far the month was from normal, then those not scored."""
        rows = store.flags.user_months(
            str(Month.parse(month)), user, limit=limit, offset=offset, cohort=cohort
        )
        return [views.user_record(row) for row in rows]

    @routes.get("/runs")
    def runs(
        job: str | None = None,
        month: MonthText = None,
        state: str | None = None,
        limit: Limit = 100,
    ) -> list[dict[str, Any]]:
        """Runs of the ledger, the newest first."""
        states = None if state is None else [state]
        rows = store.ledger.runs(job=job, month=checked(month), states=states, limit=limit)
        return [views.run_record(run) for run in rows]

    @routes.get("/changes")
    def changes(month: MonthText = None, run: RunNumber = None) -> list[dict[str, Any]]:
        """Flags that came, went or changed when a closed month was scored again, for late rows say."""
        rows = store.changes.list(month=checked(month), run_id=run)
        return [views.change_record(row) for row in rows]

    return routes


def checked(month: str | None) -> str | None:
    """The month as the database writes it, or None.

    Raises: UsageError if it is no month.
    """
    return None if month is None else str(Month.parse(month))
