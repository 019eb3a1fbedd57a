"""What readers say of flags, by the pages' forms and by the API, and the list of suppressions."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends, Form, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from anomaly.exceptions import ConflictError, UsageError
from anomaly.feedback import Label, Remark, Suppression, Terms, verdict_of
from anomaly.labels import read_labels, until_of
from anomaly.months import parse_duration
from anomaly.ports import FlagRow, WebStore
from anomaly.roles import Caller
from anomaly.web import views, words
from anomaly.web.access import Door, needs
from anomaly.web.api import BEARER, MISSING, PROBLEMS, Number, Problem
from anomaly.web.pages import Renderer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.ports import ConsequenceRow
    from anomaly.settings import FeedbackSettings

ALWAYS = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Analyst = Annotated[Caller, Depends(needs("analyst"))]
Text = Annotated[str, Form(max_length=5_000)]


class Said(BaseModel):
    """A verdict on a flag, or a remark: a comment, a status, an assignee."""

    model_config = ConfigDict(extra="forbid")

    verdict: str | None = Field(None, description="true, false_alarm, expected or new_normal.")
    note: str = Field("", description="Why.")
    scope: str = Field(
        "user",
        description="Whose similar flags need more evidence after a false alarm: user, cohort, none.",
    )
    until: dt.datetime | None = Field(None, description="When that ends.")
    replacing: str | None = Field(None, description="The verdict that stands and is overruled.")
    status: str | None = Field(None, description="open, acknowledged or closed.")
    assignee: str | None = Field(None, description="Who looks at it; empty for nobody.")


class Asked(BaseModel):
    """What asks for more evidence of some flags; nothing in a field of its scope means any."""

    model_config = ConfigDict(extra="forbid")

    reason: str
    user_id: str | None = None
    cohort: str | None = None
    metric: str | None = None
    kind: str | None = None
    direction: str | None = None
    least_score: float | None = None
    least_effect: float | None = None
    start: dt.datetime | None = None
    end: dt.datetime | None = None


STANDS: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Another verdict stands; say which one you replace"}
}


def terms_of(settings: FeedbackSettings) -> Terms:
    """What follows from a verdict, as set."""
    return Terms(settings.margin, parse_duration(settings.keep))


def api(store: WebStore, door: Door, terms: Terms) -> APIRouter:
    """Serves /api/v1/flags/…/feedback, /api/v1/feedback and /api/v1/suppressions."""
    routes = APIRouter(
        prefix="/api/v1",
        dependencies=[Depends(needs("reader")), Depends(BEARER)],
        responses=PROBLEMS | MISSING,
    )

    @routes.get("/flags/{flag_id}/feedback")
    def said(flag_id: str) -> list[dict[str, Any]]:
        """What was said of a flag, the oldest first."""
        found(store, flag_id)
        return [views.said_record(row) for row in store.feedback.said(flag_id)]

    @routes.post("/flags/{flag_id}/feedback", status_code=201, responses=STANDS)
    def say(flag_id: str, said: Said, caller: Analyst) -> dict[str, Any]:
        """Give a verdict on a flag, or remark on it. 409: another verdict stands."""
        found(store, flag_id)
        if said.verdict is None:
            remark = Remark(flag_id, caller.name, said.note, said.status, said.assignee)
            store.feedback.remark(remark, door.clock())
            return {"flag_id": flag_id}
        if said.status is not None or said.assignee is not None:
            raise UsageError("a verdict closes the flag: send status or assignee by themselves.")
        until = None if said.until is None else until_of(said.until.isoformat())
        replacing = None if said.replacing is None else verdict_of(said.replacing)
        label = Label(
            flag_id, verdict_of(said.verdict), caller.name, said.note, said.scope, until, replacing
        )
        return give(store, [label], terms, door.clock())[0]

    @routes.post("/feedback", status_code=201, responses=STANDS)
    def say_all(
        lines: Annotated[bytes, Body(media_type="text/csv")], caller: Analyst
    ) -> list[dict[str, Any]]:
        """Give verdicts from CSV (flag_id, verdict, note, author, scope, until, replacing), all or none."""
        try:
            text = lines.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"the body is not UTF-8 ({error.reason}).") from error
        return give(store, read_labels(text, "the body", caller.name), terms, door.clock())

    @routes.get("/suppressions")
    def suppressions(revoked: bool = False) -> list[dict[str, Any]]:
        """What asks for more evidence, the newest first."""
        return [views.suppression_record(row) for row in store.suppressions.list(revoked=revoked)]

    @routes.post("/suppressions", status_code=201)
    def ask(asked: Asked, caller: Analyst) -> dict[str, Any]:
        """Ask for more evidence of some flags; without a least score or effect they are ignored."""
        given = asked.model_dump(exclude={"start", "end"})
        if not any(value for name, value in given.items() if name != "reason"):
            raise UsageError("that would silence everything: name a scope or a least score.")
        start = ALWAYS if asked.start is None else until_of(asked.start.isoformat())
        end = None if asked.end is None else until_of(asked.end.isoformat())
        one = Suppression(**given, start=start or ALWAYS, end=end, author=caller.name)
        number, quieted = store.suppressions.add(one, door.clock())
        return {"id": number, "quieted": quieted}

    @routes.delete("/suppressions/{number}")
    def revoke(number: Number, caller: Analyst) -> dict[str, Any]:
        """Take a suppression back; the flags it quieted show again."""
        return {"id": number, "shown": store.suppressions.revoke(number, caller.name, door.clock())}

    return routes


def pages(store: WebStore, renderer: Renderer, door: Door, terms: Terms) -> APIRouter:
    """Serves the forms of a flag's page, and /suppressions."""
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(needs("reader"))])

    @routes.post("/flags/{flag_id}/label")
    def label(
        flag_id: str,
        verdict: Annotated[str, Form(max_length=40)],
        caller: Analyst,
        note: Text = "",
        scope: Annotated[str, Form(max_length=40)] = "user",
        replacing: Annotated[str, Form(max_length=40)] = "",
    ) -> RedirectResponse:
        given = Label(
            flag_id, verdict_of(verdict), caller.name, note.strip(), scope, None, replacing or None
        )
        found(store, flag_id)
        give(store, [given], terms, door.clock())
        return RedirectResponse(f"{words.flag_url(flag_id)}#said", 303)

    @routes.post("/flags/{flag_id}/remark")
    def remark(
        flag_id: str,
        caller: Analyst,
        note: Text = "",
        status: Annotated[str, Form(max_length=40)] = "",
        assignee: Text = "",
    ) -> RedirectResponse:
        row = found(store, flag_id)
        who = assignee.strip()
        said = Remark(
            flag_id,
            caller.name,
            note.strip(),
            status if status and status != row.status else None,
            who if who != (row.assignee or "") else None,
        )
        store.feedback.remark(said, door.clock())
        return RedirectResponse(f"{words.flag_url(flag_id)}#said", 303)

    @routes.get("/suppressions")
    def suppressions(revoked: Annotated[str, Query(max_length=10)] = "") -> HTMLResponse:
        rows = store.suppressions.list(revoked=bool(revoked))
        return renderer.page(
            "suppressions.html", rows=rows, revoked=bool(revoked), now=door.clock()
        )

    @routes.post("/suppressions/{number}/revoke")
    def revoke(number: Number, caller: Analyst) -> RedirectResponse:
        store.suppressions.revoke(number, caller.name, door.clock())
        return RedirectResponse("/suppressions", 303)

    return routes


def found(store: WebStore, flag_id: str) -> FlagRow:
    """A flag that can be seen. Raises: HTTPException 404, saying what became of it."""
    try:
        return store.flags.get(flag_id)
    except UsageError as error:
        raise HTTPException(404, str(error)) from error


def give(
    store: WebStore, labels: Sequence[Label], terms: Terms, now: dt.datetime
) -> list[dict[str, Any]]:
    """Give verdicts, and say what followed. Raises: HTTPException 409 where another verdict stands."""
    try:
        done: Sequence[ConsequenceRow] = store.feedback.label(labels, terms, now)
    except ConflictError as error:
        raise HTTPException(409, str(error)) from error
    return [views.consequence_record(one) for one in done]
