from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from anomaly import engine, units
from tests.fixtures.behaviour import UTC, score_after

pytestmark = pytest.mark.slow  # it scores months

DAY = 24  # steps
FILES = 0  # of METRICS


def scaled(panel, factor, first=0, last=None, users=slice(None), metric=FILES):
    """The panel with a metric in another unit on some days, of some users."""
    values = np.copy(panel.values)
    end = None if last is None else last * DAY
    values[users, first * DAY : end, metric] *= np.float32(factor)
    return replace(panel, values=values)


def busier(panel, factor):
    """The panel with more in its working hours."""
    values = np.asarray(panel.values)
    return replace(panel, values=np.where(values > 1, values * factor, values))


def learnt(model, history):
    """What history taught of everyone."""
    empty = engine.States.empty(model, history.users)
    return engine.reference(model, history, empty, UTC).states.twin


@pytest.fixture(scope="module")
def known(small_model, history):
    return learnt(small_model, history)


def found(model, panel, known):
    return units.changes(panel, model.links, model.prior, known, "UTC")


def instant(day):
    return int(pd.Timestamp(f"2026-03-{day:02d}", tz="UTC").timestamp())


@pytest.mark.parametrize("factor", [1_000, 1_024, 60, 3_600, 1e6, 1 / 1_000, 10])
def test_a_change_of_unit_is_named_once_with_its_factor_and_its_day(
    small_model, month, known, factor
):
    (one,) = found(small_model, scaled(month, factor, first=10), known)
    assert one.metric == "files_read"
    assert one.factor == pytest.approx(factor, rel=0.03)
    assert (one.since, one.until) == (instant(11), month.grid.end)
    assert one.moved == one.users == 24


def test_a_change_that_was_mended_ends(small_model, month, known):
    (one,) = found(small_model, scaled(month, 1_000, first=8, last=17), known)
    assert (one.since, one.until) == (instant(9), instant(18))


def test_what_people_do_is_no_change_of_unit(small_model, month, known):
    rng = np.random.default_rng(0)
    for panel in (
        month,
        scaled(month, 3),  # everyone does more
        scaled(month, 1_000, users=[0, 1, 2]),  # some do much more
        scaled(month, 30, first=10),  # no unit is thirty of another
        scaled(month, 1_000, first=11, last=12),  # one day
        scaled(
            month, 10 ** rng.uniform(0, 3, (24, 1))
        ),  # everyone does more, each by another factor
    ):
        assert found(small_model, panel, known) == ()


@pytest.mark.parametrize("more", [1.5, 2, 3])
def test_a_weekend_is_no_change_of_unit_however_quiet(small_model, history, month, more):
    """Some tenth of a working hour's files are read in the few hours of a weekend in which any are."""
    ever = learnt(small_model, busier(history, more))
    assert found(small_model, busier(month, more), ever) == ()
    (one,) = found(small_model, scaled(busier(month, more), 1_000, first=9), ever)
    assert one.factor == pytest.approx(1_000, rel=0.03)
    assert (one.since, one.until) == (instant(10), month.grid.end)


def test_of_strangers_and_of_few_nothing_is_said(small_model, month, known):
    panel = scaled(month, 1_000)
    strangers = engine.States.empty(small_model, panel.users).twin
    assert found(small_model, panel, strangers) == ()
    few = engine.States.empty(small_model, panel.users[:4])
    assert found(small_model, panel.take(range(4)), few.twin) == ()


def test_a_change_of_unit_is_nobodys_flag(small_model, history, month):
    usual = score_after(small_model, history, month)
    scored = score_after(small_model, history, scaled(month, 1_000, first=10))
    assert not any("files_read" in flag.metrics and flag.end.day > 11 for flag in scored.flags)
    assert len(scored.flags) <= len(usual.flags)
    at = np.s_[:, : 10 * DAY]
    assert np.array_equal(scored.scores[at] >= 1, usual.scores[at] >= 1), "days before are judged"
    assert not scored.panel.mask[:, 10 * DAY :, FILES].any()
    assert scored.panel.mask[..., 1].all(), "the other metric is judged as ever"


def test_one_user_in_another_unit_is_flagged(small_model, history, month):
    scored = score_after(small_model, history, scaled(month, 1_000, first=10, users=[5]))
    assert "u005" in {flag.user_id for flag in scored.flags if "files_read" in flag.metrics}


def test_the_sentence_says_what_since_when_and_what_to_do():
    more = units.UnitChange("bytes", 1_000.0, instant(10), instant(31), 59, 60)
    assert more.sentence("UTC").startswith(
        "metric bytes of 59 of 60 users: unit changed about 1000-fold since 2026-03-10; "
    )
    assert "import those rows again" in more.sentence("UTC")
    less = replace(more, factor=0.001)
    assert "about to 1/1000 since" in less.sentence("UTC")
