"""The pages an analyst reads: a month, a user's month, a flag, the model."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

import anomaly
from anomaly.exceptions import UsageError
from anomaly.feedback import VERDICTS
from anomaly.heatmap import heat_map, span
from anomaly.months import Month, parse_duration, zone
from anomaly.ports import PUBLISHED, FlagFilter, FlagRow, RunRow, WebStore
from anomaly.records import KINDS, SEVERITIES, STATUSES
from anomaly.roles import Role
from anomaly.rows import SCHEMA, Rows
from anomaly.settings import MetricSettings, Settings
from anomaly.web import assets, views, words
from anomaly.web.access import current_visit, needs
from anomaly.web.api import checked
from anomaly.wording import counted

if TYPE_CHECKING:
    from anomaly.model import Model

USERS = 12  # on one page of their table
FLAGS = 25
MEMBERS = 50  # of a peer group, on one page
MONTHS = 240  # offered to choose from: twenty years
SUPPRESSED = {"no": False, "only": True}  # as the filter's form says it
AROUND = dt.timedelta(days=3)  # of a flag, in which the calendar is told
PLOTS = 4  # drawn on a user's page; further flags are linked

Page = Annotated[int, Query(ge=1, le=1_000_000)]
# An empty form field arrives as "": it does not filter.
Text = Annotated[str, Query(max_length=2_000)]


class Renderer:
    """Templates with everything they call. settings: of metrics, and of the zone of all times."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.timezone = timezone = settings.grid.timezone
        self._templates = Environment(
            loader=PackageLoader("anomaly.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
        self._templates.globals.update(
            asset=assets.addresses(),
            style_marks=assets.style_marks,
            version=anomaly.__version__,
            words=words,
            counted=counted,
            visit=current_visit,
            may=_may,
            zone_name=str(zone(timezone)),
            moment=lambda when: words.moment(when, timezone),
            stretch=lambda start, end: words.stretch(start, end, timezone),
        )

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Fill a template; every value is escaped where it lands."""
        return HTMLResponse(self._templates.get_template(template).render(**values), status)


def router(store: WebStore, renderer: Renderer, model: Callable[[], Model | None]) -> APIRouter:
    """Serves /, /users/…, /flags/… and /model."""
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(needs("reader"))])

    @routes.get("/")
    def month(
        month: Text = "",
        severity: Text = "",
        status: Text = "",
        kind: Text = "",
        label: Text = "",
        suppressed: Text = "",
        user: Text = "",
        metric: Text = "",
        assignee: Text = "",
        users: Page = 1,
        flags: Page = 1,
    ) -> HTMLResponse:
        chosen = {
            "severity": severity, "status": status, "kind": kind, "label": label,
            "suppressed": suppressed, "user": user, "metric": metric, "assignee": assignee,
        }  # fmt: skip
        return _month(store, renderer, month, chosen, users, flags)

    @routes.get("/users")
    def named(user: Text, month: Text = "", metric: Text = "") -> HTMLResponse:
        return _user(store, renderer, user, month, metric)

    @routes.get("/users/{user_id:path}")
    def user(user_id: str, month: Text = "", metric: Text = "") -> HTMLResponse:
        return _user(store, renderer, user_id, month, metric)

    @routes.get("/flags/{flag_id}")
    def flag(flag_id: str) -> HTMLResponse:
        return _flag(store, renderer, flag_id)

    @routes.get("/cohorts")
    def cohorts(month: Text = "", cohort: Text = "", users: Page = 1) -> HTMLResponse:
        return _cohorts(store, renderer, month, cohort, users)

    @routes.get("/model")
    def in_use() -> HTMLResponse:
        return _model(renderer, model())

    return routes


def _may(role: str) -> bool:
    """Whether the page's reader has a role, so that a form is shown only to those it serves."""
    visit = current_visit()
    return bool(visit and visit.caller and visit.caller.role.covers(Role(role)))


def _month(
    store: WebStore, renderer: Renderer, month: str, chosen: dict[str, str], users: int, flags: int
) -> HTMLResponse:
    runs = store.ledger.month_states(limit=MONTHS)
    wanted = checked(month or None) or _latest(runs)
    if wanted is None:
        return renderer.page("empty.html")
    asked = {name: value or None for name, value in chosen.items()}
    filters = FlagFilter(
        wanted,
        asked["user"],
        asked["metric"],
        asked["severity"],
        asked["status"],
        asked["kind"],
        asked["label"],
        asked["assignee"],
        SUPPRESSED.get(chosen["suppressed"]),
    )
    # One row more than shown tells whether another page follows.
    ranked = store.flags.user_months(wanted, limit=USERS + 1, offset=(users - 1) * USERS)
    found = store.flags.select(replace(filters, limit=FLAGS + 1, offset=(flags - 1) * FLAGS))
    open_counts = store.flags.severities(FlagFilter(wanted, suppressed=False))
    quieted = sum(store.flags.severities(FlagFilter(wanted, suppressed=True)).values())
    filtered = any(chosen.values())
    fitting = (
        sum(store.flags.severities(filters).values())
        if filtered
        else sum(open_counts.values()) + quieted
    )
    return renderer.page(
        "month.html",
        month=wanted,
        months=sorted({run.month for run in runs if run.month} | {wanted}, reverse=True),
        run=next((run for run in runs if run.month == wanted), None),
        severities=views.severities(open_counts),
        quieted=quieted,
        users=ranked[:USERS],
        users_page=_Paging("users", users, len(ranked) > USERS, {**chosen, "month": wanted}),
        flags=found[:FLAGS],
        fitting=fitting,
        flags_page=_Paging("flags", flags, len(found) > FLAGS, {**chosen, "month": wanted}),
        chosen=chosen,
        filtered=filtered,
        choices={
            "severity": tuple(reversed(SEVERITIES)),
            "status": STATUSES,
            "kind": KINDS,
            "label": VERDICTS,
            "suppressed": tuple(SUPPRESSED),
        },
    )


def _user(
    store: WebStore, renderer: Renderer, user_id: str, month: str, metric: str
) -> HTMLResponse:
    flags = store.flags.select(FlagFilter(user=user_id))
    wanted = checked(month or None) or max((row.month for row in flags), default=None)
    runs = store.ledger.month_states(limit=MONTHS)
    wanted = wanted or _latest(runs)
    rows = store.flags.user_months(wanted, user_id) if wanted else []
    if wanted is None or not (rows or flags):
        raise HTTPException(404, f"no scored month knows a user {user_id!r}")
    here = [row for row in flags if row.month == wanted]
    run = next((run for run in runs if run.month == wanted), None)
    metrics, shown = _map(store, renderer.settings, user_id, wanted, run, metric, here)
    month_start, month_end = (
        edge(renderer.timezone) for edge in (Month.parse(wanted).start, Month.parse(wanted).end)
    )
    cohort = rows[0].user_month.cohort if rows else None
    return renderer.page(
        "user.html",
        events=views.events_of(store.events.read(month_start, month_end), user_id, cohort),
        user_id=user_id,
        month=wanted,
        row=rows[0] if rows else None,
        metrics=metrics,
        map=shown,
        flags=[(row, _plot(store, renderer, row)) for row in here[:PLOTS]],
        more=here[PLOTS:],
        others=[row for row in flags if row.month != wanted],
    )


def _map(
    store: WebStore,
    settings: Settings,
    user_id: str,
    month: str,
    run: RunRow | None,
    metric: str,
    flags: Sequence[FlagRow],
) -> tuple[list[str], views.Map | None]:
    """The user's metrics, and the heat map of one: the asked, else the strongest flag's.

    Raises: HTTPException 404 if the user has no such metric in the month or shortly before.
    """
    timezone, wanted = settings.grid.timezone, Month.parse(month)
    start, end = span(wanted, timezone)
    tables = list(store.observations.read(start, end, [user_id]))
    rows = Rows.from_arrow(pa.concat_tables(tables) if tables else SCHEMA.empty_table())
    metrics = sorted(rows.metric_names)
    if metric and metric not in metrics:
        known = ", ".join(metrics[:10]) or "none"
        raise HTTPException(404, f"{user_id!r} has no metric {metric!r} in {month}; known: {known}")
    if not metrics:
        return [], None
    named = [
        words.first_metric(row.flag) for row in flags if words.first_metric(row.flag) in metrics
    ]
    counts = np.bincount(rows.metric_code, minlength=len(rows.metric_names))
    shown = metric or (named[0] if named else rows.metric_names[int(counts.argmax())])
    own = rows.metric_code == rows.metric_names.index(shown)
    given = settings.metric.get(shown, MetricSettings())
    over = min(end, run.started_at) if run and run.started_at else end
    found = heat_map(
        rows.observed_at[own],
        rows.value[own],
        wanted,
        timezone,
        int(parse_duration(settings.grid.step).total_seconds()),
        int(over.timestamp()),
        given.aggregate,
        given.absent,
    )
    return metrics, views.month_map(found, shown, [row.flag for row in flags], timezone)


def _flag(store: WebStore, renderer: Renderer, flag_id: str) -> HTMLResponse:
    try:
        row = store.flags.get(flag_id)
    except UsageError as error:
        raise HTTPException(404, str(error)) from error
    user_months = store.flags.user_months(row.month, row.flag.user_id)
    siblings = store.flags.select(FlagFilter(row.month, user=row.flag.user_id))
    before, after = store.flags.neighbours(row)
    around = store.events.read(row.flag.start - AROUND, row.flag.end + AROUND)
    cohort = user_months[0].user_month.cohort if user_months else None
    return renderer.page(
        "flag.html",
        events=views.events_of(around, row.flag.user_id, cohort),
        row=row,
        flag=row.flag,
        plot=_plot(store, renderer, row),
        comparisons=views.comparisons(row.flag),
        glance=views.glance(row.flag),
        user_month=user_months[0].user_month if user_months else None,
        before=before,
        after=after,
        siblings=[other for other in siblings if other.flag.flag_id != flag_id],
        said=store.feedback.said(flag_id),
    )


def _cohorts(
    store: WebStore, renderer: Renderer, month: str, cohort: str, users: int
) -> HTMLResponse:
    wanted = checked(month or None) or _latest(store.ledger.month_states(limit=MONTHS))
    if wanted is None:
        return renderer.page("empty.html")
    groups = store.flags.cohorts(wanted)
    if cohort and cohort not in groups:
        known = ", ".join(groups) or "none"
        raise HTTPException(404, f"no scored user of {wanted} is in {cohort!r}; known: {known}")
    members = (
        store.flags.user_months(
            wanted, limit=MEMBERS + 1, offset=(users - 1) * MEMBERS, cohort=cohort
        )
        if cohort
        else []
    )
    return renderer.page(
        "cohorts.html",
        month=wanted,
        groups=groups,
        chosen=cohort,
        members=members[:MEMBERS],
        paging=_Paging(
            "users", users, len(members) > MEMBERS, {"month": wanted, "cohort": cohort}, "/cohorts"
        ),
    )


def _model(renderer: Renderer, model: Model | None) -> HTMLResponse:
    if model is None:
        raise HTTPException(404, "no model is in use yet: anomaly run --month trains one")
    return renderer.page(
        "model.html",
        model=model,
        trained=[
            views.instant(model.summary.trained_from),
            views.instant(model.summary.trained_to),
        ],
        calibration=views.calibration(model.calibration),
    )


def _plot(store: WebStore, renderer: Renderer, row: FlagRow) -> views.Plot | None:
    band = store.flags.series(row.flag.flag_id)
    return None if band is None else views.plot(row.flag, band, renderer.timezone)


def _latest(runs: Sequence[RunRow]) -> str | None:
    """The newest month with results, else the newest month that anything is known of."""
    months = [run.month for run in runs if run.month]
    scored = [r.month for r in runs if r.month and r.state in PUBLISHED]
    return max(scored or months, default=None)


class _Paging:
    """Where one table of a page stands, and the addresses of its neighbours."""

    def __init__(
        self, name: str, page: int, more: bool, query: dict[str, str], path: str = "/"
    ) -> None:
        self._name, self._path = name, path
        self._query = {key: value for key, value in query.items() if value}
        self.previous = self._address(page - 1) if page > 1 else None
        self.next = self._address(page + 1) if more else None

    def _address(self, page: int) -> str:
        return f"{self._path}?{urlencode({**self._query, self._name: page})}#{self._name}"
