"""Incidents planted into real behaviour: where they may be, what they may change, how alike they come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly.exceptions import ShapeError, UsageError
from anomaly.grid import make_grid
from anomaly.metrics import MetricSpec
from anomaly.panel import Panel
from anomaly.planting import SIZES, plant, possible
from anomaly.records import KINDS

DAY = 86_400
SPECS = {
    "files": MetricSpec("files"),
    "sent": MetricSpec("sent", "count"),
    "load": MetricSpec("load", "gauge", "mean", "missing"),
    "busy": MetricSpec("busy", "share", "mean", "missing"),
    "sticks": MetricSpec("sticks"),
}


def made(users: int = 40, days: int = 31, step: int = 3_600) -> Panel:
    """Office hours of a count, an amount, a gauge, a share, and a metric that half never use."""
    grid = make_grid(1_767_571_200, 1_767_571_200 + days * DAY, step, "UTC")  # a Monday
    rng = np.random.default_rng(5)
    shape = (users, len(grid), len(SPECS))
    hour, day = grid.times % DAY // 3_600, grid.times // DAY % 7
    work = ((hour >= 8) & (hour < 17) & (day != 2) & (day != 3)) | (step >= DAY)
    values = np.zeros(shape, np.float32)
    values[..., 0] = work * rng.poisson(8, shape[:2])
    values[..., 1] = work * np.ceil(rng.lognormal(12, 1, shape[:2]))
    values[..., 2] = 20 + 5 * rng.standard_normal(shape[:2])
    values[..., 3] = rng.beta(2, 6, shape[:2])
    values[::2, :, 4] = work * (rng.random((len(values[::2]), len(grid))) < 0.1)
    mask = rng.random(shape) < 0.9
    first = np.where(np.arange(users) % 5 == 0, len(grid) // 4, 0)
    last = np.where(np.arange(users) % 7 == 0, 3 * len(grid) // 4, len(grid))
    panel = Panel(
        tuple(f"u{user:02d}" for user in range(users)), tuple(SPECS), grid,
        np.where(mask, values, 0), mask, first, last,
    )  # fmt: skip
    alive = panel.present[..., None]
    return replace(panel, values=panel.values * alive, mask=panel.mask & alive)


def test_kinds_and_sizes_come_by_turns_each_in_another_user():
    _, planted = plant(made(), SPECS, 1, 24)
    assert len(planted) == len({incident.user for incident in planted}) == 24
    drawn = sorted((incident.kind, incident.size) for incident in planted)
    assert drawn == sorted((kind, size) for kind in KINDS for size in SIZES)


@pytest.mark.parametrize("step", [300, 3_600, 6 * 3_600, DAY])
def test_only_what_is_known_and_recorded_as_changed_changes(step):
    panel = made(users=24, step=step)
    kept = panel.values.copy()
    after, planted = plant(panel, SPECS, 2, 12)
    assert np.array_equal(panel.values, kept)
    assert len(planted) >= 10
    changed = after.values != kept
    assert not (changed & ~panel.mask).any()
    assert not (changed & ~panel.present[..., None]).any()
    told = np.zeros(changed.shape, bool)
    for incident in planted:
        told[incident.user, incident.first : incident.last, list(incident.metrics)] = True
        assert changed[incident.user, [incident.first, incident.last - 1]].any(-1).all()
    assert not (changed & ~told).any()


def test_values_stay_of_their_kind():
    panel = made()
    after, planted = plant(panel, SPECS, 3, 40, sizes=(8.0,))
    assert len(planted) >= 35
    whole = after.values[..., [0, 1, 4]]
    assert (whole >= 0).all()
    assert not (whole % 1).any()
    assert after.values[..., 3].min() >= 0
    assert after.values[..., 3].max() <= 1
    assert np.isfinite(after.values).all()


def test_a_larger_size_changes_more():
    panel = made(users=12)
    for kind in ("burst", "drift", "new", "silence"):
        totals = []
        for size in SIZES:
            after, planted = plant(panel, SPECS, 4, 6, kinds=(kind,), sizes=(size,))
            before = panel.values[[incident.user for incident in planted]]
            change = np.abs(after.values[[incident.user for incident in planted]] - before)
            totals.append(np.log1p(change).sum() / max(len(planted), 1))
        assert totals == sorted(totals), kind


def test_each_kind_does_what_it_says():
    panel = made(users=20)
    worked = (panel.values[..., :2] > 0).any(-1)

    after, planted = plant(panel, SPECS, 5, 5, kinds=("silence",), sizes=(2.0,))
    for incident in planted:
        at = np.s_[incident.user, incident.first : incident.last]
        assert worked[at].any()
        assert not after.values[at][:, [0, 1, 4]].any()

    after, planted = plant(panel, SPECS, 5, 5, kinds=("new",))
    for incident in planted:
        assert incident.metrics == (4,)
        assert not panel.values[incident.user, :, 4].any()

    full = replace(panel, mask=np.broadcast_to(panel.present[..., None], panel.mask.shape).copy())
    after, planted = plant(full, SPECS, 5, 5, kinds=("shift",), sizes=(4.0,))
    for incident in planted:
        before, now = full.values[incident.user], after.values[incident.user]
        assert np.array_equal(np.sort(before, axis=0), np.sort(now, axis=0))

    after, planted = plant(panel, SPECS, 5, 5, kinds=("combination",))
    for incident in planted:
        assert 1 <= len(incident.metrics) <= 2  # of four or five in use; the others stay


def test_the_order_of_users_and_the_moment_change_nothing():
    panel = made(users=15)
    rows = np.random.default_rng(0).permutation(15)
    after, planted = plant(panel, SPECS, 6, 10)
    again, others = plant(panel.take(rows), SPECS, 6, 10)
    assert np.array_equal(again.values, after.values[rows])
    said = {(panel.users[one.user], one.kind, one.first) for one in planted}
    assert said == {(panel.users[rows[one.user]], one.kind, one.first) for one in others}
    other_seed, _ = plant(panel, SPECS, 7, 10)
    assert not np.array_equal(other_seed.values, after.values)


def test_only_the_heeded_side_is_moved():
    specs = {name: replace(spec, direction="up") for name, spec in SPECS.items()}
    panel = made(users=16)
    assert "silence" not in possible(panel, specs)
    after, planted = plant(panel, specs, 8, 12, kinds=("burst", "drift", "new"))
    assert planted
    assert (after.values >= panel.values).all()


def test_what_cannot_be_is_left_out_or_refused():
    lone = made(users=1)
    assert set(possible(lone, SPECS)) == {"burst", "silence", "shift", "drift"}
    _, planted = plant(lone, SPECS, 9, 5)
    assert len(planted) == 1
    assert "shift" not in possible(made(users=3, step=DAY), SPECS)
    assert plant(made(users=5, days=5), SPECS, 9, 5)[1] == ()
    still = replace(lone, values=np.zeros_like(lone.values))
    assert plant(still, SPECS, 9, 5)[1] == ()
    with pytest.raises(UsageError, match="take some of burst, silence"):
        plant(lone, SPECS, 0, 1, kinds=("sabotage",))
    with pytest.raises(UsageError, match="sizes above 0"):
        plant(lone, SPECS, 0, 1, sizes=(0.0,))
    with pytest.raises(ShapeError, match="Lay both out alike"):
        plant(lone, SPECS, 0, 1, usual=made(users=2))


def test_earlier_steps_say_what_is_new():
    earlier, panel = made(users=10), made(users=10)
    values = panel.values.copy()
    values[:, :, 4] = 0  # nobody uses it this month; the even users did before
    panel = replace(panel, values=values)
    _, planted = plant(panel, SPECS, 10, 5, kinds=("new",), usual=earlier)
    assert planted
    assert all(incident.user % 2 for incident in planted)
