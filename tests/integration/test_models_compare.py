"""anomaly models compare: two models on one month, by their flags and by planted incidents."""

from __future__ import annotations

import csv
import io
import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import sqlalchemy as sa
import structlog

from anomaly.exceptions import ModelError, UsageError
from anomaly.months import Month
from anomaly.settings import Settings
from anomaly.store.tables import METADATA
from pipelines.cli.app import run
from pipelines.jobs.compare import changes, compare_models, rank_correlation
from pipelines.jobs.month import run_month
from pipelines.jobs.train import fit, history_of
from pipelines.services import core_engine
from tests.fixtures.jobs import Clock, at, behaviour, make_services

MARCH = Month(2026, 3)
TINY = {"cell": "none", "steps": 20, "units": 8, "batch": 16, "truncate_steps": 24}
SIX_HOURS = {"step": "6h"}


def at_hour(hour):
    return pd.Timestamp("2026-03-02", tz="UTC") + pd.Timedelta(hours=hour)


def flag(user, first, last, score):
    return SimpleNamespace(
        user_id=user,
        start=at_hour(first),
        end=at_hour(last),
        score=score,
        metrics="m",
        explanation="",
    )


def test_flags_are_matched_where_they_overlap():
    first = [flag("a", 0, 5, 2.0), flag("a", 10, 12, 1.5), flag("b", 0, 5, 1.2)]
    second = [
        flag("a", 4, 6, 1.1),
        flag("a", 3, 4, 1.4),
        flag("a", 12, 13, 3.0),
        flag("c", 0, 5, 1.0),
    ]
    table = changes(first, second)
    said = [
        tuple(row)
        for row in table[["change", "user_id", "score", "other_score"]].fillna(0).to_numpy()
    ]
    assert said == [
        ("appears", "a", 0, 3.0),  # begins where the other ends
        ("appears", "c", 0, 1.0),
        ("stays", "a", 2.0, 1.4),
        ("vanishes", "a", 1.5, 0),
        ("vanishes", "b", 1.2, 0),
    ]
    assert len(changes([], [])) == 0


def test_months_correlate_by_rank_of_users_whom_both_scored():
    def verdict(**scores):
        return SimpleNamespace(months=[
            SimpleNamespace(user_id=user, score=score, skipped=None) for user, score in scores.items()
        ])  # fmt: skip

    assert rank_correlation(verdict(a=1, b=2, c=9), verdict(a=0.1, b=0.2, c=0.3)) == pytest.approx(
        1
    )
    assert rank_correlation(verdict(a=1, b=2, d=5), verdict(b=1, a=2, e=7)) == pytest.approx(-1)
    assert math.isnan(rank_correlation(verdict(a=1, b=1), verdict(a=1, b=2)))


@pytest.fixture
def services(sqlite_url, tmp_path, monkeypatch):
    """Three months of sixteen users by six hours; nothing is learnt yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("ANOMALY_RUN__ARTEFACTS", str(tmp_path / "artefacts"))
    monkeypatch.setenv("ANOMALY_GRID__STEP", "6h")
    for name, value in TINY.items():
        monkeypatch.setenv(f"ANOMALY_MODEL__{name.upper()}", str(value))
    settings = Settings.model_validate(
        {"database": {"url": sqlite_url}, "run": {"workers": 1}, "model": TINY, "grid": SIX_HOURS}
    )
    made = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")), settings)
    made.store.observations.write(behaviour("2026-01", "2026-03", users=16), "t")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield replace(made, engine=core_engine)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def enter(services, model):
    """Register a model as a candidate."""
    stored = services.artefacts.write(model.version, model.to_files())
    return services.store.models.register(
        version=model.version, address=stored.address, sha256=stored.sha256,
        trained_from=at("2026-01-01"), trained_to=pd.Timestamp(model.summary.trained_to, unit="s", tz="UTC"),
        validation_loss=model.summary.validation_loss, twin_loss=None, calibration_error=None,
        users=16, metrics=model.metrics, configuration="another", now=services.clock(),
    )  # fmt: skip


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    with sa.create_engine(url).connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sa.select(table))]
            for name, table in METADATA.tables.items()
        }


@pytest.mark.timeout(300)
def test_a_champion_and_a_candidate_are_compared_and_nothing_is_written(
    services, sqlite_url, capfd
):
    run_month(services, MARCH)
    champion = services.store.models.champion().version
    with pytest.raises(UsageError, match=f"{champion} is the only model .* compare A B"):
        compare_models(services, MARCH, (), 0, 6)
    other = services.settings.model_copy(
        update={"model": services.settings.model.model_copy(update={"cell": "lstm"})}
    )
    other_way = fit(services, other, *history_of(services, MARCH))
    candidate = enter(services, other_way).version
    before = content(sqlite_url)
    found = compare_models(services, MARCH, (), 0, 6)
    assert (found.first.model.version, found.second.model.version) == (champion, candidate)
    assert list(found.first.incidents["user_id"]) == list(found.second.incidents["user_id"])
    assert found.first.touched == 6
    assert -1 <= found.rank_correlation <= 1
    figures = {name: (first, second) for name, first, second in found.figures()}
    stay = int((found.changes["change"] == "stays").sum())
    assert stay + figures["flags the other has not"][0] == figures["flags"][0]
    assert all(math.isfinite(loss) for loss in figures["validation loss"])

    same = compare_models(services, MARCH, (champion,), 0, 6)
    assert same.rank_correlation == pytest.approx(1)
    assert set(same.changes["change"]) <= {"stays"}
    assert same.first.found == same.second.found

    assert run(["models", "compare", "--month", "2026-03", "--incidents", "6"]) == 0
    text = capfd.readouterr().out
    assert f"{champion}" in text
    assert "rank correlation of users' months" in text
    names = ["models", "compare", candidate, champion, "--month", "2026-03", "--format", "csv"]
    assert run(names) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert len(rows) == len(found.changes)
    assert content(sqlite_url) == before

    assert run(["models", "compare", "--month", "2026-02"]) == 2
    assert "no model was trained before it" in capfd.readouterr().err
    with pytest.raises(UsageError, match="learnt from data up to 2026-03-01 .* has seen 2026-02"):
        compare_models(services, Month(2026, 2), (champion, candidate), 0, 6)
    with pytest.raises(ModelError, match="'nobody' is not registered"):
        compare_models(services, MARCH, ("nobody",), 0, 6)
