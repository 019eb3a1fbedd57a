"""The operator's pages: did last month run, once, completely, and what to do where it did not."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from anomaly.exceptions import UsageError
from anomaly.months import Month, parse_duration
from anomaly.ports import CANCEL, PAUSE, RESCORE, RESUME, RUN, Operations, WebStore
from anomaly.roles import Caller
from anomaly.web import operating
from anomaly.web.access import needs
from anomaly.web.api import LARGEST_NUMBER, Number, RunNumber
from anomaly.web.pages import Renderer

RUNS = 200  # read of the ledger for one page
SHOWN_RUNS = 25
SHOWN_REQUESTS = 8
LONGEST_REASON = 300
ACTIONS = {
    RUN: "Run {month}",
    RESCORE: "Score {month} again",
    PAUSE: "Pause the schedule",
    RESUME: "Resume the schedule",
    CANCEL: "Cancel run {target}",
}
MEANINGS = {
    RUN: "The scheduler starts it within seconds. A month that is complete does not change.",
    RESCORE: "All users of the month are scored anew; the flags of now are kept as superseded.",
    PAUSE: "Nothing is fired until somebody resumes it; what falls due meanwhile is written as missed.",
    RESUME: "The next firing is carried out as planned; it makes up for months that were missed.",
    CANCEL: "Its process ends and the run is written as failed. What stands published stays.",
}

Action = Annotated[str, Query(pattern="^(month|rescore|pause|resume|cancel)$")]
FormAction = Annotated[str, Form(pattern="^(month|rescore|pause|resume|cancel)$")]


def router(store: WebStore, renderer: Renderer, operations: Operations) -> APIRouter:
    """Serves /operate, its runs, and what is asked for there."""
    routes = APIRouter(
        prefix="/operate", include_in_schema=False, dependencies=[Depends(needs("operator"))]
    )

    @routes.get("")
    def operate(said: Annotated[str, Query(max_length=40)] = "") -> HTMLResponse:
        shown = operating.board(_facts(store, renderer, operations))
        return renderer.page(
            "operate.html", board=shown, shown_runs=SHOWN_RUNS, said=ACTIONS.get(said)
        )

    @routes.get("/runs/{run_id}")
    def run(run_id: Number) -> HTMLResponse:
        try:
            found = store.ledger.get(run_id)
        except UsageError as error:
            raise HTTPException(404, str(error)) from error
        return renderer.page(
            "run.html",
            run=found,
            stages=sorted(
                store.ledger.stages(run_id),
                key=lambda one: (one.started_at is None, one.started_at),
            ),
            skipped=operating.skipped_of(found),
            changes=store.changes.list(run_id=run_id),
        )

    @routes.get("/ask")
    def confirm(action: Action, month: str = "", target: RunNumber = None) -> HTMLResponse:
        wanted = _checked(action, month, target)
        return renderer.page(
            "ask.html",
            action=action,
            month=wanted,
            target=target,
            title=ACTIONS[action].format(month=wanted, target=target),
            meaning=MEANINGS[action],
            longest=LONGEST_REASON,
        )

    @routes.post("/ask")
    def ask(
        caller: Annotated[Caller, Depends(needs("operator"))],
        action: FormAction,
        month: Annotated[str, Form()] = "",
        target: Annotated[int | None, Form(ge=1, le=LARGEST_NUMBER)] = None,
        reason: Annotated[str, Form(max_length=LONGEST_REASON)] = "",
    ) -> Response:
        wanted = _checked(action, month, target)
        operations.ask(caller.name, action, wanted, target, reason.strip())
        return RedirectResponse(f"/operate?said={action}", 303)

    return routes


def _checked(action: str, month: str, target: int | None) -> str | None:
    """The month that an action is about, or None.

    Raises: HTTPException 400 if the action lacks what it is about.
    """
    if action in {RUN, RESCORE}:
        return str(Month.parse(month))
    if action == CANCEL and target is None:
        raise HTTPException(400, "cancel: name the run")
    return None


def _facts(store: WebStore, renderer: Renderer, operations: Operations) -> operating.Facts:
    runs = store.ledger.runs(limit=RUNS)
    settings = renderer.settings
    return operating.Facts(
        now=operations.now(),
        timezone=renderer.timezone,
        lateness=parse_duration(settings.run.lateness),
        month_states=store.ledger.month_states(limit=operating.MONTHS),
        runs=runs,
        stages={run.id: store.ledger.stages(run.id) for run in runs if run.state == "running"},
        models=store.models.list(),
        watermarks=store.figures.watermarks(),
        undelivered=store.figures.undelivered(operations.now() - operating.UNDELIVERED),
        requests=store.requests.latest(SHOWN_REQUESTS),
        waiting=store.requests.waiting(),
        paused=store.requests.paused(),
        conditions=operations.conditions(),
        configured=operations.source(),
        late=store.late.waiting(),
    )
