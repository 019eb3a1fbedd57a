"""Days that are not like others: whom an event concerns, and what it does to them."""

import datetime as dt

import numpy as np
import pytest

from anomaly.calendar import (
    LEAVE,
    MONTH_END,
    CalendarContext,
    Event,
    days_off,
    local_calendar,
    payday,
    slots_per_day,
    unjudged,
)
from anomaly.exceptions import SettingsError
from anomaly.grid import make_grid
from anomaly.panel import Panel
from tests.fixtures.jobs import at

USERS = ("ann", "bob", "cyd")
COHORTS = {"ann": "sales", "bob": "sales", "cyd": "IT"}
HOUR, DAY = 3_600, 86_400
START, END = (int(at(text).timestamp()) for text in ("2026-03-02T00:00", "2026-03-07T00:00"))
TUESDAY = START + DAY
SCOPES = [({"user_id": "bob"}, [1]), ({"cohort": "sales"}, [0, 1]), ({}, [0, 1, 2]),
          ({"user_id": "nobody"}, []), ({"cohort": "nobody's"}, [])]  # fmt: skip


def on_tuesday(kind, step=HOUR, **scope):
    """The calendar of a working week with such an event on its Tuesday, and without."""
    grid = make_grid(START, END, step, "UTC")
    event = Event(kind, TUESDAY, TUESDAY + DAY, **scope)
    told = CalendarContext(events=(event,), user_cohorts=COHORTS)
    return local_calendar(USERS, grid, told), local_calendar(USERS, grid, CalendarContext())


@pytest.mark.parametrize(("scope", "whom"), SCOPES)
@pytest.mark.parametrize("step", [HOUR, DAY])
def test_leave_is_a_free_day_for_those_it_concerns(scope, whom, step):
    told, plain = on_tuesday("leave", step, **scope)
    day = slice(24, 48) if step == HOUR else slice(1, 2)
    free = 6 if step == DAY else np.arange(24) + slots_per_day(HOUR)
    changed = np.zeros(plain.slot.shape, bool)
    changed[whom, day] = True
    assert (told.slot[whom, day] == free).all()
    assert (told.slot == plain.slot)[~changed].all()
    assert ((told.features[..., LEAVE] == 1) == changed).all()


@pytest.mark.parametrize(("scope", "whom"), SCOPES)
def test_a_payday_is_like_the_end_of_a_month(scope, whom):
    told, plain = on_tuesday("payday", **scope)
    assert not plain.features[..., MONTH_END].any()
    assert told.features[whom, 24:48, MONTH_END].all()
    assert told.features[..., MONTH_END].sum() == 24 * len(whom)
    assert (told.slot == plain.slot).all()


def test_a_holiday_of_everyone_is_a_free_day():
    told, _ = on_tuesday("holiday")
    assert (told.slot[:, 24:48] >= slots_per_day(HOUR)).all()


def test_the_settings_payday_is_a_local_day():
    grid = make_grid(START, END, HOUR, "UTC")
    told = local_calendar(("ann",), grid, CalendarContext("America/New_York", payday=4))
    (marked,) = np.nonzero(told.features[0, :, MONTH_END])
    assert marked.tolist() == list(range(2 * 24 + 5, 3 * 24 + 5))


@pytest.mark.parametrize(
    ("month", "day", "paid"),
    [
        ((2026, 1), 15, (2026, 1, 15)),
        ((2026, 2), 15, (2026, 2, 13)),  # a Sunday
        ((2026, 2), 31, (2026, 2, 27)),  # no such day, and the last one is a Saturday
        ((2026, 12), 25, (2026, 12, 24)),  # Christmas
        ((2026, 1), 1, (2025, 12, 31)),
    ],
)
def test_people_are_paid_on_a_working_day(month, day, paid):
    assert payday(*month, day, days_off("DE", range(2025, 2027))) == dt.date(*paid)


def panel(step):
    grid = make_grid(START, END, step, "UTC")
    shape = (len(USERS), len(grid), 1)
    whole = np.full(len(USERS), len(grid), np.int64)
    return Panel(USERS, ("files",), grid, np.ones(shape, np.float32), np.ones(shape, bool),
                 np.zeros_like(whole), whole)  # fmt: skip


@pytest.mark.parametrize(("scope", "whom"), SCOPES)
def test_what_is_announced_is_not_judged(scope, whom):
    event = Event("announced", TUESDAY + 1_800, TUESDAY + 2 * HOUR, **scope)
    whole = panel(HOUR)
    left = unjudged(whole, CalendarContext(events=(event,), user_cohorts=COHORTS))
    expected = np.ones(whole.mask.shape, bool)
    expected[whom, 24:26] = False  # each step that shares time with it
    assert (left.mask == expected).all()
    assert (left.values[..., 0] == expected[..., 0]).all()
    assert whole.mask.all()


def test_a_few_hours_take_a_whole_step_of_a_day():
    event = Event("announced", TUESDAY + 8 * HOUR, TUESDAY + 9 * HOUR)
    left = unjudged(panel(DAY), CalendarContext(events=(event,)))
    assert left.mask[:, :, 0].tolist() == [[True, False, True, True, True]] * 3


@pytest.mark.parametrize("kind", ["leave", "holiday", "payday"])
def test_other_days_are_judged(kind):
    whole = panel(HOUR)
    assert unjudged(whole, CalendarContext(events=(Event(kind, TUESDAY, TUESDAY + DAY),))) is whole


def test_a_country_that_is_none_is_refused_as_a_setting():
    with pytest.raises(SettingsError, match=r"\[calendar\] country = 'Germania' is no country"):
        days_off("Germania", range(2025, 2026))
