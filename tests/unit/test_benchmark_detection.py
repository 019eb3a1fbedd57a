import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from anomaly.exceptions import SettingsError, UsageError
from benchmarks.detection import __main__ as command
from benchmarks.detection import report
from benchmarks.detection.arms import ARMS, GROUPS, choose
from benchmarks.detection.baselines import by_windows, components, robust_z, threshold, windowed_z
from benchmarks.detection.judging import MEASURES
from benchmarks.detection.layout import lay_out, runs
from benchmarks.detection.sets import OtherWorlds, Worlds
from benchmarks.detection.store import Cost, Store, key_of
from benchmarks.detection.strangers import CLEAN, make_strangers
from benchmarks.detection.strangers.incidents import KINDS
from benchmarks.detection.versions import APART, meaning

START = pd.Timestamp("2026-01-01", tz="UTC")
DETECTING = """
import sys
import numpy as np
import pandas as pd
from anomaly import detect
times = pd.date_range("2026-01-01", periods=90, freq="D", tz="UTC")
rows = {"metric": "load", "observed_at": times, "value": np.random.default_rng(0).poisson(20, 90)}
users = [pd.DataFrame(rows | {"user_id": name}) for name in "abcd"]
detect(pd.concat(users), times[60].to_pydatetime())
print(*sys.modules)
"""


def by_name(name):
    return next(arm for arm in ARMS if arm.name == name)


def series(values, user="a", metric="load", step="1h"):
    times = pd.date_range(START, periods=len(values), freq=step)
    columns = {"user_id": user, "metric": metric, "observed_at": times, "value": values}
    return pd.DataFrame(columns)


def test_every_arm_has_a_name_of_its_own_a_known_group_and_one_way_to_detect():
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert {arm.group for arm in ARMS} == set(GROUPS)
    for arm in ARMS:
        assert arm.what
        assert not (arm.override and arm.detect)
        assert arm.override or arm.detect or arm.name == "default"
        assert set(arm.sets) <= set(MEASURES)


def test_an_arm_changes_the_settings_it_names_and_nothing_else():
    assert by_name("default").settings() is None
    changed = by_name("gru").settings()
    assert changed.model_dump(exclude_unset=True) == {"model": {"cell": "gru"}}


def test_settings_take_every_arm():
    for arm in ARMS:
        settings = arm.settings(["bytes"])
        assert (settings is None) == (not arm.override)


def test_a_star_stands_for_every_metric():
    settings = by_name("gaussian").settings(["bytes", "files"])
    assert {name: one.likelihood for name, one in settings.metric.items()} == {
        "bytes": "gaussian", "files": "gaussian",
    }  # fmt: skip


def test_an_override_that_settings_refuse_says_whose_it_is():
    arm = dataclasses.replace(by_name("gru"), override={"model": {"cell": "abacus"}})
    with pytest.raises(SettingsError, match=r"arm gru: \[model\] cell"):
        arm.settings()


def test_arms_are_chosen_by_name_group_and_pattern_in_the_table_s_order():
    assert choose(["threshold_*", "default"])[0].name == "default"
    assert {arm.group for arm in choose(["baseline"])} == {"baseline"}
    with pytest.raises(UsageError, match="--arms lsmt"):
        choose(["lsmt"])


def test_a_result_s_key_changes_with_the_override_the_part_and_the_data():
    gru, rnn = by_name("gru"), by_name("rnn")
    keys = [
        key_of(gru, "v1", "p"), key_of(rnn, "v1", "p"), key_of(gru, "v2", "p"), key_of(gru, "v1", "q"),
        key_of(by_name("robust_z"), "v1", "p"), key_of(by_name("pca_windows"), "v1", "p"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key_of(gru, "v1", "p") == key_of(dataclasses.replace(gru, what="other words"), "v1", "p")


def test_comments_and_docstrings_do_not_change_what_code_means():
    assert meaning('"""A."""\ndef f():\n    """B."""\n    return 1  # C') == meaning(
        '"""D."""\n\ndef f():\n    "E"\n    return 1'
    )
    assert meaning("x = 1") != meaning("x = 2")


def test_a_result_is_named_by_all_code_that_made_it():
    run = subprocess.run(
        [sys.executable, "-c", DETECTING], capture_output=True, text=True, check=True
    )
    ran = {name.split(".")[1] for name in run.stdout.split() if name.startswith("anomaly.")}
    assert {"detector", "networks", "thresholds"} <= ran
    assert {name.removesuffix(".py") for name in APART} & ran == {"calibration_report"}


def test_worlds_of_one_seed_are_one_part_and_differ_in_version():
    worlds = Worlds()
    assert len(worlds.parts("full")) * worlds.users[0] == 2_000
    assert worlds.span == (
        pd.Timestamp("2026-04-01", tz="UTC"),
        pd.Timestamp("2026-05-01", tz="UTC"),
    )
    assert worlds.version(worlds.parts("full")[0]) != worlds.version(worlds.parts("full")[1])


@pytest.fixture(scope="module")
def strangers():
    return make_strangers(dataclasses.replace(CLEAN, incident_share=0.5), 36, seed=3)


def test_a_world_of_another_maker_is_the_same_for_the_same_seed(strangers):
    plan = dataclasses.replace(CLEAN, incident_share=0.5)
    again, other = (make_strangers(plan, 36, seed) for seed in (3, 4))
    assert again.observations.equals(strangers.observations)
    pd.testing.assert_frame_equal(again.incidents, strangers.incidents)
    assert not other.observations.equals(strangers.observations)


def test_every_kind_of_incident_occurs_and_touches_nothing_but_its_span_in_the_scored_month(
    strangers,
):
    start, end = OtherWorlds().span
    planted = strangers.incidents
    assert set(planted["kind"]) == set(KINDS)
    assert planted["start"].min() >= start
    assert planted["end"].max() <= end
    calm = make_strangers(dataclasses.replace(CLEAN, incident_share=0), 36, seed=3)
    assert calm.incidents.empty
    keys = ["user_id", "metric", "observed_at", "value"]
    both = [world.observations.to_pandas()[keys] for world in (strangers, calm)]
    changed = pd.concat(both).drop_duplicates(keep=False)
    assert len(changed)
    spans = changed.merge(planted, on="user_id", how="left")
    assert ((spans["start"] <= spans["observed_at"]) & (spans["observed_at"] < spans["end"])).all()


def test_worlds_of_another_maker_are_clean_or_busy_by_their_name():
    worlds = OtherWorlds()
    assert len(worlds.parts("full")) == 4
    assert worlds.parts("sample") == ["450 users, clean, seed 1", "450 users, busy, seed 1"]
    assert len({worlds.version(part) for part in worlds.parts("full")}) == 4
    clean, busy = (worlds.load(part) for part in worlds.parts("quick"))
    assert not clean.frame.equals(busy.frame)
    assert clean.train_until == worlds.span[0]


def test_a_count_that_records_no_zeros_is_zero_where_silent_and_others_are_unknown():
    silent = series([3.0, np.nan, 4.0, np.nan], metric="files").dropna()
    gauge = series([0.5, 0.1, np.nan, 0.25], metric="load").dropna()
    laid = lay_out(pd.concat([silent, silent, gauge]), START + pd.Timedelta(hours=3))
    files, load = laid.amounts[0].T
    np.testing.assert_allclose(files, np.log1p([3, 0, 4, 0]), rtol=1e-6)
    np.testing.assert_allclose(load, [0.5, 0.1, np.nan, 0.25], rtol=1e-6)
    assert laid.first == 3


def test_runs_are_inclusive():
    assert runs(np.array([True, False, True, True])) == [(0, 0), (2, 3)]
    assert runs(np.zeros(3, dtype=bool)) == []


def test_windowed_z_reads_whole_and_other_amounts_alike():
    sizes = np.random.default_rng(2).lognormal(8, 1, 900).round() + 1
    cut = START + pd.Timedelta(hours=700)
    whole, other = (lay_out(series(values), cut) for values in (sizes, sizes + 1e-3))
    assert (whole.logged.all(), other.logged.any()) == (True, False)
    np.testing.assert_allclose(windowed_z(whole, 700), windowed_z(other, 700), atol=0.01)


@pytest.mark.parametrize("score", [robust_z, by_windows(components)], ids=["robust_z", "pca"])
def test_a_baseline_scores_a_spike_highest_and_learns_nothing_from_the_scored_part(score):
    rng = np.random.default_rng(1)
    values = np.sin(np.arange(900) / 24 * 2 * np.pi) + 0.1 * rng.normal(size=900)
    values[800] += 9
    frame, cut = series(values), START + pd.Timedelta(hours=700)
    found = score(lay_out(frame, cut), 700)
    assert abs(int(found[0].argmax()) - 100) < 24
    early = score(lay_out(frame.iloc[:750], cut), 700)
    np.testing.assert_allclose(found[0, :25], early[0, :25], rtol=1e-4)


def test_a_threshold_keeps_its_budget_on_fresh_scores_of_the_same_kind():
    rng = np.random.default_rng(2)
    history, fresh = (rng.exponential(size=(400, 730)).astype(np.float32) for _ in range(2))
    level = threshold(history, np.ones_like(history, dtype=bool), 3_600)
    assert 0.5 < (fresh.max(axis=1) > level).mean() / 0.02 < 2


def test_results_are_kept_and_a_refused_part_is_one(tmp_path):
    store = Store(tmp_path)
    assert store.cost("set/arm/key") is None
    store.write("set/arm/key", None, None, Cost(1.0, 2.0, "too short"))
    assert store.cost("set/arm/key") == Cost(1.0, 2.0, "too short")


def test_what_was_written_by_hand_survives():
    own = f"{report.BEGIN}\n\nIt failed because.\n\n{report.END}\n"
    assert report.kept_by_hand(f"# Old\n{own}## Older\n") == own
    assert report.kept_by_hand("# Without") == report.BY_HAND


@pytest.fixture
def tiny_world(monkeypatch):
    monkeypatch.setattr(command, "known_sets", lambda _: [Worlds(months=2, users=(25,) * 3)])
    monkeypatch.delenv(command.VARIABLE, raising=False)


def test_the_command_writes_a_page_keeps_results_and_goes_on_where_it_was(
    tiny_world, tmp_path, capsys
):
    page = tmp_path / "benchmark.md"
    arguments = ["--quick", "--cache", str(tmp_path), "--out", str(page), "--arms"]
    assert command.main([*arguments, "robust_z"]) == 0
    assert "1 to do, 0 kept" in capsys.readouterr().err
    assert command.main([*arguments, "robust_z,windowed_z"]) == 0
    assert "1 to do, 1 kept" in capsys.readouterr().err
    text = page.read_text()
    assert "| robust_z | " in text
    assert "| windowed_z | 0." in text or "| windowed_z | 1." in text
    assert report.BEGIN in text
    assert str(tmp_path) not in text


def test_a_set_that_is_not_there_is_named(tiny_world, tmp_path, capsys):
    assert command.main(["--quick", "--cache", str(tmp_path), "--sets", "mars"]) == 2
    assert "--sets mars" in capsys.readouterr().err
