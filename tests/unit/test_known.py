"""What travels with a shard, and what stays behind."""

import pickle

from anomaly.calendar import CalendarContext, Event
from pipelines.jobs.reading import Known, People
from pipelines.services import Services
from tests.fixtures.jobs import Clock, at, make_services
from tests.fixtures.jobs import SmallEngine as Engine


def test_a_shard_carries_what_concerns_its_users_alone():
    everyone = Event("holiday", 0, 86_400)
    leaves = {user: Event("leave", 0, 86_400, user_id=user) for user in ("ann", "bob", "cai")}
    known = Known(
        People({"ann": 1, "bob": 2, "cai": 3}, {"cai": 9}),
        CalendarContext("Europe/Paris", "FR", {"ann": "UTC"}, (*leaves.values(), everyone)),
    )
    part = known.of(["cai", "bob"])
    assert part.people == People({"cai": 3, "bob": 2}, {"cai": 9})
    assert part.calendar == CalendarContext(
        "Europe/Paris", "FR", {}, (everyone, leaves["cai"], leaves["bob"])
    )
    assert part.people.users == ("cai", "bob")


def test_services_travel_as_their_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_services("sqlite:///anomaly.db", tmp_path, Clock(at("2026-05-20T00:00")))
    _, (settings, *_) = made.__reduce__()
    assert settings.database.url == f"sqlite:///{tmp_path / 'anomaly.db'}"
    assert settings.run.workers == made.settings.run.workers == 1
    object.__setattr__(made, "engine", Engine)  # one that has a name
    packed = pickle.dumps(made)
    monkeypatch.chdir("/")
    arrived = pickle.loads(packed)
    assert isinstance(arrived, Services)
    assert arrived.store.users.read() == []
    assert arrived.artefacts.folder == tmp_path / "anomaly-artefacts"
