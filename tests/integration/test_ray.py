"""A month on a real Ray cluster of several nodes: the same as on one machine, whoever dies."""

import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from anomaly.exceptions import SettingsError
from anomaly.months import Month
from anomaly.settings import Settings, with_values
from pipelines.executors import cluster
from pipelines.jobs.month import run_month
from pipelines.services import core_engine
from tests.fixtures.cluster import START_SECONDS, Struck, nodes, ray_folder
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services

__all__ = ["nodes", "ray_folder"]

pytestmark = pytest.mark.timeout(1200)

MARCH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 900.0, ("u9", "2026-03-20T03:00"): 900.0}
USERS = 12


def services_on(url, folder, **model):
    settings = Settings.model_validate(
        {
            "database": {"url": url},
            "grid": {"step": "6h"},
            "model": {"cell": "none", **model},
            "run": {"workers": 1, "shard_users": 2},
        }
    )
    made = make_services(url, folder, Clock(at("2026-05-20T00:00")), settings)
    made.store.observations.write(behaviour("2026-01", "2026-03", USERS, peaks=PEAKS), "t")
    return replace(made, engine=core_engine)


def on_cluster(services, address, **values):
    run = {"engine": "ray", "ray_address": address, "workers": 0, **values}
    return replace(services, settings=with_values(services.settings, "test", "run", **run))


def kill_node_of(folder, nodes):
    """Wait until a shard says on which node it lingers, then kill that."""

    def kill():
        ended = time.monotonic() + START_SECONDS
        while time.monotonic() < ended and not (folder / "node").exists():
            time.sleep(0.1)
        nodes.kill((folder / "node").read_text())

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_worker_and_a_node_are_killed_and_the_month_is_as_on_one_machine(
    nodes, sqlite_url, tmp_path
):
    alone = services_on(sqlite_url, tmp_path / "a")
    assert run_month(alone, MARCH).state == "complete"

    notes = tmp_path / "notes"
    notes.mkdir()
    made = services_on(sqlite_url.replace("anomaly.db", "b.db"), tmp_path / "b")
    struck = replace(made, engine=partial(Struck, notes, "u3", "u8"))
    killer = kill_node_of(notes, nodes)
    outcome = run_month(on_cluster(struck, nodes.address), MARCH)
    killer.join(1)

    assert not killer.is_alive()
    assert (notes / "killed").exists()
    assert len(nodes.nodes) == 2
    assert (outcome.state, outcome.users_scored, outcome.users_skipped) == ("complete", USERS, {})
    assert exported(made, "2026-03") == exported(alone, "2026-03")
    assert {row["user_id"] for row in exported(made, "2026-03")} >= {"u2", "u9"}
    people = made.store.flags.user_months("2026-03")
    assert len(people) == len({row.user_month.user_id for row in people}) == USERS
    attempts = {user: len((notes / f"scored-{user}").read_text()) for user in ("u0", "u3", "u8")}
    assert attempts["u3"] >= 2
    assert attempts["u8"] >= 2
    version = outcome.model_version
    kept = [each.store.states.read(version, "2026-03") for each in (made, alone)]
    assert kept[0] == kept[1]


@pytest.mark.long
def test_a_network_s_month_survives_deaths_and_a_user_who_kills_every_process_is_named(
    nodes, sqlite_url, tmp_path
):
    lstm = {"cell": "lstm", "units": 8, "steps": 40, "batch": 16, "truncate_steps": 24}
    made = services_on(sqlite_url, tmp_path / "b", **lstm)
    notes = tmp_path / "notes"
    notes.mkdir()
    struck = replace(made, engine=partial(Struck, notes, "u3", "nobody", "u8"))
    outcome = run_month(on_cluster(struck, nodes.address, shard_users=4, attempts=2), MARCH)
    assert (outcome.state, outcome.users_scored) == ("provisional", USERS - 1)
    assert outcome.users_skipped == {"scoring_failed": 1}
    run = made.store.ledger.current("2026-03")
    (error,) = made.store.shards.set_aside(run.id).values()
    assert error.startswith("1 of 4 users not scored in 2 attempts: WorkerCrashedError")

    again = run_month(replace(made, engine=core_engine), MARCH)  # on this machine
    assert (again.state, again.users_scored) == ("complete", USERS)
    alone = services_on(sqlite_url.replace("anomaly.db", "a.db"), tmp_path / "a", **lstm)
    assert run_month(alone, MARCH).model_version == outcome.model_version
    assert exported(made, "2026-03") == exported(alone, "2026-03")


@pytest.mark.filterwarnings("ignore:Ray Client connection timed out:UserWarning")
def test_a_cluster_that_does_not_answer_is_named(ray_folder, monkeypatch):
    monkeypatch.setattr("ray.util.client.worker.INITIAL_TIMEOUT_SEC", 0.5)
    with (
        pytest.raises(SettingsError, match="no Ray cluster answers at 'ray://127.0.0.1:1'"),
        cluster.connected("ray://127.0.0.1:1", 0, 1, 1),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with (
        pytest.raises(SettingsError, match=r'pip install "anomaly\[ray\]"'),
        cluster.connected(None, 0, 1, 1),
    ):
        pass
