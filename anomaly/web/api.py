"""The JSON API: flags, users and runs, with the filters of the command line."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from anomaly.exceptions import UsageError
from anomaly.formats import WRITERS
from anomaly.months import Month
from anomaly.ports import FLAG_SORTS, USER_SORTS, FlagFilter, WebStore
from anomaly.web import paging, views
from anomaly.web.access import needs

LARGEST_NUMBER = 2**31 - 1  # PostgreSQL's INTEGER ends here
MonthText = Annotated[str | None, Query(description="A month such as 2026-10.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="At most so many rows.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="Leaves out so many rows first.")]
Cursor = Annotated[
    str | None, Query(description="Where the page before ended; its Link header has it.")
]
BY = "What to sort by, with - before it for the highest first."
FlagSort = Annotated[str, Query(pattern=paging.sorts(FLAG_SORTS), description=BY)]
UserSort = Annotated[str, Query(pattern=paging.sorts(USER_SORTS), description=BY)]
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
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing changed since the answer with this tag"}
}
FORMS: dict[int | str, dict[str, Any]] = {
    **UNCHANGED,
    200: {"content": {kind: {} for kind in WRITERS if kind != paging.JSON}},
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
    _flags(routes, store)
    _users(routes, store)
    _runs(routes, store)
    return routes


def _flags(routes: APIRouter, store: WebStore) -> None:
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
        sort: FlagSort = "-score",
    ) -> Response:
        """Flags as `anomaly flags export` gives them, the highest score first unless sorted otherwise.

        As JSON, CSV or Parquet by the Accept header. `Link` leads to the next page, and
        `X-Total-Count` says how many there are; with `If-None-Match`, 304 where nothing changed.
        """
        form = paging.accepted(request.headers.get("accept", ""))
        chosen = FlagFilter(
            checked(month), user, metric, severity, status, kind, label, assignee, suppressed, limit,
            offset, sort=sort,
        )  # fmt: skip
        asked = {**asdict(chosen), "limit": None, "offset": 0}
        column = sort.removeprefix("-")
        page = replace(chosen, after=paging.place(cursor, asked, (FLAG_SORTS[column], "text")))
        rows = store.flags.select(replace(page, limit=limit + 1))
        headers = {"X-Total-Count": str(sum(store.flags.severities(chosen).values()))}
        if len(rows) > limit:
            last = rows[limit - 1].flag
            behind = (getattr(last, column), last.flag_id)
            headers["Link"] = paging.following(request, asked, behind)
        if form == paging.JSON:
            records = [views.flag_record(row) for row in rows[:limit]]
            return paging.records(request, records, headers)
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


def _users(routes: APIRouter, store: WebStore) -> None:
    @routes.get("/users", response_model=list[dict[str, Any]], responses=FORMS)
    def users(
        request: Request,
        month: Annotated[str, Query(description="A month such as 2026-10.")],
        user: str | None = None,
        cohort: str | None = None,
        limit: Limit = 100,
        offset: Offset = 0,
        cursor: Cursor = None,
        sort: UserSort = "rank",
    ) -> Response:
        """Users ranked by how far the month was from normal unless sorted otherwise, then those not scored.

        In the forms, and with the headers, that flags have.
        """
        form = paging.accepted(request.headers.get("accept", ""))
        wanted, column = str(Month.parse(month)), sort.removeprefix("-")
        asked = {"month": wanted, "user": user, "cohort": cohort, "sort": sort}
        after = paging.place(cursor, asked, ("number", USER_SORTS[column], "text"))
        rows = store.flags.user_months(
            wanted, user, limit=limit + 1, offset=offset, cohort=cohort, sort=sort, after=after
        )
        headers = {"X-Total-Count": str(store.flags.count_user_months(wanted, user, cohort))}
        if len(rows) > limit:
            behind = views.place_of_user(rows[limit - 1], column)
            headers["Link"] = paging.following(request, asked, behind)
        records = [views.user_record(row) for row in rows[:limit]]
        if form == paging.JSON:
            return paging.records(request, records, headers)
        table = views.user_table(records)
        return paging.body(request, form, paging.written(table, form), headers)


def _runs(routes: APIRouter, store: WebStore) -> None:
    @routes.get("/runs", response_model=list[dict[str, Any]], responses=UNCHANGED)
    def runs(
        request: Request,
        job: str | None = None,
        month: MonthText = None,
        state: str | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """Runs of the ledger, the newest first, page by page, with a tag."""
        asked = {"job": job, "month": checked(month), "state": state}
        after = paging.place(cursor, asked, ("number",))
        rows = store.ledger.runs(
            job=job, month=asked["month"], states=None if state is None else [state],
            limit=limit + 1, before=None if after is None else int(after[0]),
        )  # fmt: skip
        headers = {}
        if len(rows) > limit:
            headers["Link"] = paging.following(request, asked, (rows[limit - 1].id,))
        return paging.records(request, [views.run_record(run) for run in rows[:limit]], headers)

    @routes.get("/changes", response_model=list[dict[str, Any]], responses=UNCHANGED)
    def changes(request: Request, month: MonthText = None, run: RunNumber = None) -> Response:
        """Flags that came, went or changed when a closed month was scored again, with a tag: for rows or
        events that came late, or because somebody asked for it.
        """
        rows = store.changes.list(month=checked(month), run_id=run)
        return paging.records(request, [views.change_record(row) for row in rows], {})


def checked(month: str | None) -> str | None:
    """The month as the database writes it, or None.

    Raises: UsageError if it is no month.
    """
    return None if month is None else str(Month.parse(month))
