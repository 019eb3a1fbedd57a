import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from anomaly.exceptions import DataError, UsageError
from anomaly.records import Flag
from anomaly.simulation import judge, make_world
from anomaly.simulation.incidents import LARGEST, MACHINES, PEOPLE, SMALLEST
from anomaly.simulation.roles import METRICS, ROLES

pytestmark = pytest.mark.slow  # it makes worlds

START, END = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-05-01", tz="UTC")
LAST_MONTH = pd.Timestamp("2026-04-01", tz="UTC")
KEY = ["user_id", "metric", "observed_at"]


@pytest.fixture(scope="module")
def world():
    return make_world(users=300, seed=7)


@pytest.fixture(scope="module")
def rows(world):
    return world.observations.to_pandas()


@pytest.fixture(scope="module")
def honest():
    return make_world(users=300, seed=7, incident_share=0).observations.to_pandas()


def by_key(frame):
    return frame.drop_duplicates().set_index(KEY)["value"]


def changed(rows, honest):
    """Rows in which the world and the same world without incidents differ."""
    both = pd.concat({"got": by_key(rows), "honest": by_key(honest)}, axis=1).fillna(0)
    return both[both["got"] != both["honest"]].reset_index()


def test_observations_have_the_four_columns(world):
    schema = world.observations.schema
    assert schema.names == ["user_id", "metric", "observed_at", "value"]
    assert schema.field("observed_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("value").type == pa.float64()
    assert all(column.null_count == 0 for column in world.observations.columns)


def test_rows_are_positive_whole_hourly_amounts_of_the_world_s_months(rows):
    assert set(rows["metric"]) == set(METRICS)
    assert (rows["value"] > 0).all()
    assert (rows["value"] == np.floor(rows["value"])).all()
    assert rows["observed_at"].min() >= START
    assert rows["observed_at"].max() < END
    assert (rows["observed_at"] == rows["observed_at"].dt.floor("h")).all()


def test_same_seed_same_world_and_another_seed_another():
    one, again, other = (make_world(users=40, seed=seed) for seed in (7, 7, 8))
    assert again.observations.equals(one.observations)
    pd.testing.assert_frame_equal(again.incidents, one.incidents)
    pd.testing.assert_frame_equal(again.events, one.events)
    assert not other.observations.equals(one.observations)


def test_a_larger_world_holds_the_same_users(world, rows):
    small = make_world(users=40, seed=7)
    names = set(small.users["user_id"])
    pd.testing.assert_frame_equal(small.users, world.users.head(40))
    mine = rows[rows["user_id"].isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(small.observations.to_pandas(), mine)
    planted = world.incidents[world.incidents["user_id"].isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(small.incidents, planted)


def test_incidents_change_their_own_hours_and_no_others(world, rows, honest):
    differences = changed(rows, honest)
    matched = differences.merge(world.incidents, on="user_id")
    inside = matched[
        (matched["observed_at"] >= matched["start"]) & (matched["observed_at"] < matched["end"])
    ]
    assert len(inside) == len(differences)


def test_every_incident_leaves_a_trace_from_its_first_hour_to_its_last(world, rows, honest):
    differences = changed(rows, honest)
    for incident in world.incidents.itertuples():
        mine = differences[differences["user_id"] == incident.user_id]
        hours = mine.loc[mine["observed_at"].between(incident.start, incident.end), "observed_at"]
        assert hours.min() == incident.start
        assert hours.max() + pd.Timedelta("1h") == incident.end


def test_incident_metrics_are_those_that_changed(world, rows, honest):
    differences = changed(rows, honest)
    for incident in world.incidents.itertuples():
        mine = differences[differences["user_id"] == incident.user_id]
        mine = mine[mine["observed_at"].between(incident.start, incident.end, inclusive="left")]
        assert set(incident.metrics.split(";")) == set(mine["metric"])


def test_share_of_users_attacked_in_the_last_month_and_before():
    incidents = make_world(users=600, seed=1).incidents
    last = incidents[incidents["start"] >= LAST_MONTH]["user_id"].nunique()
    earlier = incidents[incidents["start"] < LAST_MONTH]["user_id"].nunique()
    assert 0.08 < last / 600 < 0.15
    assert 0.04 < earlier / 600 < 0.14


def test_incident_months_says_how_many_months_are_attacked():
    few = make_world(users=100, months=2, incident_share=0.5, incident_months=1).incidents
    many = make_world(users=100, months=2, incident_share=0.5, incident_months=2).incidents
    january = pd.Timestamp("2026-02-01", tz="UTC")
    assert (many["start"] < january).sum() > 1.5 * (few["start"] < january).sum()


def test_sizes_span_their_range_and_every_kind_occurs():
    incidents = make_world(users=250, months=2, incident_share=1, incident_months=2).incidents
    assert set(incidents["kind"]) == set(PEOPLE) | set(MACHINES)
    assert incidents["size"].between(SMALLEST, LARGEST).all()
    assert incidents["size"].quantile(0.1) < 1
    assert incidents["size"].quantile(0.95) > 8


def test_silence_takes_away_and_befalls_machines_alone():
    world = make_world(users=250, months=2, incident_share=1, incident_months=2)
    silent = world.incidents[world.incidents["kind"] == "silence"]
    roles = world.users.set_index("user_id").loc[silent["user_id"], "role"]
    assert set(roles) == {"service account"}


def test_duplicates_repeat_a_row_and_never_contradict_it(rows):
    assert 0.001 < rows.duplicated(KEY).mean() < 0.02
    assert not rows.drop_duplicates().duplicated(KEY).any()


def test_users_are_of_all_roles_and_active_when_they_say(world, rows):
    assert set(world.users["role"]) == {role.name for role in ROLES}
    seen = rows.groupby("user_id")["observed_at"].agg(["min", "max"])
    users = world.users.set_index("user_id").join(seen, how="inner")
    assert (users["min"] >= users["active_from"]).all()
    left = users[users["active_to"].notna()]
    assert len(left) > 0
    assert (left["max"] < left["active_to"]).all()
    assert (users["active_from"] > START).any()


def test_leave_is_quiet_and_holidays_are_the_user_s_own(world, honest):
    people = world.users[world.users["role"] != "service account"]["user_id"]
    leave = world.events[
        (world.events["kind"] == "leave") & world.events["user_id"].isin(people)
    ].head(60)
    of_user = dict(iter(honest.groupby("user_id")["observed_at"]))
    during = sum(of_user[e.user_id].between(e.start, e.end).sum() for e in leave.itertuples())
    hours = (leave["end"] - leave["start"]).sum() / pd.Timedelta("1h")
    assert during / hours < 0.05
    holidays = world.events[world.events["kind"] == "holiday"].merge(world.users, on="user_id")
    republic = holidays[holidays["name"] == "Republic Day"]
    assert set(republic["country"]) == {"IN"}
    # Midnight in Kolkata is at half past the hour; the first whole hour of the day follows it.
    assert set(republic["start"]) == {pd.Timestamp("2026-01-25 19:00", tz="UTC")}


def test_an_outage_is_silence_for_everyone(world, rows):
    outages = world.oddities[world.oddities["kind"] == "outage"]
    assert len(outages) > 0
    for outage in outages.itertuples():
        assert not rows["observed_at"].between(outage.start, outage.end, inclusive="left").any()


def test_a_release_day_is_announced_and_busy(world, honest):
    announced = world.events[world.events["kind"] == "announced"]
    assert set(announced["user_id"]) == {""}
    files = honest[honest["metric"] == "files_read"]
    days = files.groupby(files["observed_at"].dt.floor("D"))["value"].sum()
    workdays = days[days.index.day_of_week < 5]
    assert (days[announced["start"]] > workdays.median()).all()


def test_metrics_of_a_working_hour_rise_together(world, honest):
    wide = honest.drop_duplicates().pivot_table(
        index=["user_id", "observed_at"], columns="metric", values="value"
    )
    logs = np.log(wide[["files_read", "bytes_out"]]).dropna()
    own = logs - logs.groupby("user_id").transform("mean")
    assert own.corr().iloc[0, 1] > 0.2


def test_busy_days_come_in_runs(world, honest):
    engineers = world.users[world.users["role"] == "engineer"]["user_id"]
    files = honest[honest["user_id"].isin(engineers) & (honest["metric"] == "files_read")]
    daily = files.groupby(["user_id", files["observed_at"].dt.floor("D")])["value"].sum()
    logs = np.log(daily[daily.index.get_level_values(1).day_of_week < 5])
    own = logs - logs.groupby("user_id").transform("mean")
    correlation = own.corr(own.groupby("user_id").shift())
    assert correlation > 0.1


def test_night_operators_work_at_night_in_their_own_time_zone(world, honest):
    night = world.users[world.users["role"] == "night operator"].set_index("user_id")["timezone"]
    hours = [
        honest.loc[honest["user_id"] == user, "observed_at"].dt.tz_convert(zone).dt.hour
        for user, zone in night.items()
    ]
    hour = pd.concat(hours)
    assert ((hour >= 20) | (hour < 8)).mean() > 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": 0}, "users=0"),
        ({"months": 0}, "months=0"),
        ({"seed": -1}, "seed=-1"),
        ({"start": "yesterday"}, "yesterday"),
        ({"incident_share": 1.5}, "1.5"),
        ({"incident_months": 9}, "9"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        make_world(**arguments)


def instant(text):
    return pd.Timestamp(text, tz="UTC")


INCIDENTS = pd.DataFrame({
    "user_id": ["a", "b", "a"],
    "start": [instant("2026-04-02"), instant("2026-04-10"), instant("2026-03-05")],
    "end": [instant("2026-04-03"), instant("2026-04-12"), instant("2026-03-06")],
    "kind": ["beacon", "takeover", "beacon"],
    "metrics": ["bytes_out", "logons", "bytes_out"],
    "size": [1.0, 2.0, 3.0],
})  # fmt: skip


def judged(*rows, users=500):
    flags = pd.DataFrame(rows, columns=["user_id", "start", "end", "score"])
    return judge(INCIDENTS, flags, LAST_MONTH, END, users=users)


def test_a_flag_hits_where_user_and_time_agree_and_the_highest_is_named():
    result = judged(
        ("a", "2026-04-02T20:00Z", "2026-04-03T02:00Z", 1.2),
        ("a", "2026-04-02T01:00Z", "2026-04-02T02:00Z", 1.9),
        ("b", "2026-04-02T20:00Z", "2026-04-03T02:00Z", 5.0),
    )
    assert (result.planted, result.found, result.flags, result.false_flags) == (2, 1, 3, 1)
    assert result.incidents["found"].tolist() == [True, False]
    assert result.incidents["flag_score"].iloc[0] == 1.9
    assert result.incidents["flag_start"].iloc[0] == instant("2026-04-02T01:00")
    assert result.by_kind.to_numpy().tolist() == [["beacon", 1, 1], ["takeover", 1, 0]]
    assert result.false_flags_per_1000_user_months == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        ("2026-04-01T22:00Z", "2026-04-02T00:00Z", 0),
        ("2026-04-01T22:00Z", "2026-04-02T00:01Z", 1),
        ("2026-04-02T23:59Z", "2026-04-03T05:00Z", 1),
        ("2026-04-03T00:00Z", "2026-04-03T05:00Z", 0),
    ],
)
def test_ends_are_exclusive(start, end, hit):
    assert judged(("a", start, end, 1.0)).found == hit


def test_what_lies_outside_the_span_does_not_count():
    result = judged(("a", "2026-03-05T00:00Z", "2026-03-06T00:00Z", 9.0))
    assert (result.planted, result.found, result.flags, result.false_flags) == (2, 0, 0, 0)


def test_no_flags_and_no_users():
    result = judged(users=None)
    assert (result.found, result.false_flags) == (0, 0)
    assert result.false_flags_per_1000_user_months is None


def test_records_are_judged_like_frames():
    utc = dt.UTC
    flag = Flag(
        "f", "b", dt.datetime(2026, 4, 11, tzinfo=utc), dt.datetime(2026, 4, 13, tzinfo=utc),
        "low", 1.5, 0.001, "burst", "up", "logons", 9, 1, 0, 3, "Many log-ons.", 99, 99, 99, 10,
    )  # fmt: skip
    result = judge(INCIDENTS, [flag], LAST_MONTH, END, users=10)
    assert result.incidents["found"].tolist() == [False, True]
    assert result.false_flags == 0


def test_flags_without_a_column_are_refused():
    with pytest.raises(DataError, match="score"):
        judge(INCIDENTS, pd.DataFrame({"user_id": [], "start": [], "end": []}), LAST_MONTH, END)
