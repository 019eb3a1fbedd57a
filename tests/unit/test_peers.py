"""Peer groups: found, set by columns or by hand, and too small."""

from dataclasses import replace

import numpy as np
import pytest

from anomaly import cohorts, engine
from anomaly.peers import EVERYONE, Peering, Placed
from tests.factories import HOURS, band, flag
from tests.fixtures.behaviour import UTC

pytestmark = pytest.mark.slow  # it trains networks


def of_the_month(user, metric):
    """A flag that reaches over the whole month."""
    whole = band(0)
    return flag(user, whole, start=0, hours=HOURS, metrics=metric)


def scored(model, history, month, peering):
    base = engine.reference(model, history, engine.States.empty(model, history.users), UTC)
    now = engine.reference(model, month, base.states, UTC, peering=peering, lines=True)
    return engine.score(model, month, base.states, now, "2026-03", UTC, "test", peering)


@pytest.fixture(scope="module")
def placed():
    """Six users are sales, one is alone in its group, the others go by habits."""
    sales = {f"u{number:03d}": Placed("sales", "department is sales") for number in range(6)}
    return Peering(sales | {"u009": Placed("legal", "moved by ann on 2026-03-01: asked")})


@pytest.fixture(scope="module")
def months(small_model, history, month, placed):
    done = scored(small_model, history, month, placed)
    return {person.user_id: person for person in done.user_months}, done


def test_members_of_a_set_group_are_compared_with_it(months):
    people, _ = months
    assert {people[f"u00{number}"].cohort for number in range(6)} == {"sales"}
    assert (people["u003"].peer_count, people["u003"].cohort_why) == (5, "department is sales")


def test_a_group_of_one_is_compared_with_everyone_and_says_so(months, history):
    alone = months[0]["u009"]
    assert (alone.cohort, alone.peer_count) == (EVERYONE, len(history.users) - 1)
    assert alone.cohort_why == "legal has fewer than 5 members here"


def test_nobody_is_compared_with_those_who_were_not_there(small_model, history, month, placed):
    values = month.values.copy()
    values[0] = 0
    gone = replace(month, values=values)
    done = scored(small_model, history, gone, placed)
    people = {person.user_id: person for person in done.user_months}
    assert people["u000"].skipped is not None
    assert people["u003"].peer_count == 4, "u000 is of the sales people, and gone"
    assert people["u009"].peer_count == len(history.users) - 2
    quietest = min(done.user_months[1:], key=lambda person: person.score)
    assert quietest.all_percentile == 0


def test_a_month_in_which_nobody_did_anything_compares_with_nobody(small_model, history, month):
    nothing = replace(month, values=np.zeros_like(month.values))
    done = scored(small_model, history, nothing, Peering())
    assert {person.peer_count for person in done.user_months} == {0}


def test_a_group_found_from_habits_says_what_sets_it_apart(months, small_model):
    person = months[0]["u020"]
    assert person.cohort in {"cohort-1", "cohort-2", EVERYONE}
    told = cohorts.told(small_model.centres[0], small_model.metrics, by_hour=True)
    assert len(told.split(", ")) == cohorts.TOLD
    assert {word for part in told.split(", ") for word in part.split()} & set(small_model.metrics)
    if person.cohort == "cohort-1":
        assert person.cohort_why == f"habits: {told}"


def test_distance_is_one_for_the_typical_member(months):
    people, _ = months
    own = [p.cohort_distance for p in people.values() if p.cohort == "sales"]
    assert min(own) < 1.01 < max(own) + 0.02
    assert np.median(own) == pytest.approx(1, abs=0.35)


def test_a_plot_shows_what_peers_did_in_the_same_hours(months, month):
    _, done = months
    shown = done.band(of_the_month("u002", "files_read"))
    own = month.take(np.arange(6)).values[..., month.metrics.index("files_read")]
    middle, high = shown.peers
    assert np.all((middle >= own.min(0)) & (middle <= own.max(0)))
    assert np.all(high >= middle)
    assert np.array_equal(high, own.max(0)), "of six, 95 in 100 is the highest"


def test_without_a_known_past_everyone_is_the_peer_group(small_model, month):
    empty = engine.States.empty(small_model, month.users)
    now = engine.reference(small_model, month, empty, UTC)
    done = engine.score(small_model, month, empty, now, "2026-03", UTC, "test")
    person = done.user_months[0]
    assert person.cohort == EVERYONE
    assert person.cohort_why == "too little is known of this user's habits"
    assert person.confidence == 0


def test_confidence_falls_with_gaps_and_with_a_young_model(small_model, history, month, months):
    sure = months[0]["u020"].confidence
    mask = month.mask.copy()
    mask[20, 100:472] = False
    gaps = scored(small_model, history, replace(month, mask=mask), Peering())
    assert gaps.user_months[20].confidence == pytest.approx(sure / 2, abs=0.02)
    young = replace(
        small_model, summary=replace(small_model.summary, trained_from=small_model.summary.trained_to - 7 * 86_400)
    )  # fmt: skip
    fewer = scored(young, history, month, Peering())
    assert fewer.user_months[20].confidence == pytest.approx(sure * 0.2212 / 0.8784, abs=0.02)


def test_no_amount_is_expected_that_nobody_ever_reached(small_model, history, month, months):
    _, done = months
    for metric in month.metrics:
        shown = done.band(of_the_month("u000", metric))
        assert shown.upper.max() <= 10 * month.values.max()
        assert shown.lower.min() == 0, "nothing at all is nothing, not a very small number"
