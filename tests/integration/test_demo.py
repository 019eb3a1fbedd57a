"""The demo's story with a small engine; `make demo` itself is run end to end elsewhere."""

import sqlite3
from dataclasses import replace

import pandas as pd
import pytest

from anomaly.exceptions import UsageError
from anomaly.progress import SILENT
from anomaly.settings import Settings, load
from pipelines.jobs.demo import run_demo
from pipelines.services import open_services
from tests.fixtures.jobs import SmallEngine, at


def tell(folder, months=2):
    engine = SmallEngine()

    def services(settings):
        return replace(open_services(settings, SILENT), engine=lambda: engine)

    settings = Settings.model_validate({"source": {"url": "sqlite:///theirs.db", "table": "t"}})
    return run_demo(folder, 12, months, settings, SILENT, services)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made"
    return folder, tell(folder)


def test_a_made_company_is_imported_scored_and_judged(told):
    folder, story = told
    assert (story.outcome.state, story.outcome.month) == ("complete", "2025-07")
    assert story.outcome.users_scored >= 11
    assert story.judgement.flags == len(story.outcome.flags)
    planted = pd.read_csv(folder / "incidents.csv")
    assert story.judgement.planted <= len(planted)
    with sqlite3.connect(folder / "anomaly.db") as database:
        counts = {
            table: database.execute(f"select count(*) from {table}").fetchone()[0]
            for table in ("observations", "users", "events", "flags_current")
        }
    assert counts["users"] == 12
    assert counts["observations"] > 5_000
    assert counts["events"] > 0
    assert counts["flags_current"] == len(story.outcome.flags)


def test_its_pages_are_as_on_the_morning_after_the_month_was_closed(told):
    _, story = told
    now = story.services.clock()
    assert at("2025-08-04T08:00") < now < at("2025-08-04T09:00")
    assert story.services.clock() > now
    assert story.services.store.ledger.current("2025-07").finished_at < now


def test_its_settings_lead_to_its_database_and_nobody_elses(told):
    folder, story = told
    settings = load(folder / "anomaly.toml", {})
    assert settings.database.url == f"sqlite:///{folder / 'anomaly.db'}"
    assert story.services.settings.source.url is None
    assert story.services.artefacts.folder == folder / "anomaly-artefacts"


def test_the_next_demo_replaces_the_last(told):
    folder, story = told
    again = tell(folder)
    assert [flag.flag_id for flag in again.outcome.flags] == [
        flag.flag_id for flag in story.outcome.flags
    ]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="holds files that no demo has made"):
        tell(tmp_path)
    (tmp_path / "anomaly.toml").write_text('[database]\nurl = "sqlite:///mine.db"\n')
    with pytest.raises(UsageError, match="holds files that no demo has made"):
        tell(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_one_month_is_too_few(tmp_path):
    with pytest.raises(UsageError, match="--months 1: a demo needs 2"):
        tell(tmp_path / "d", months=1)
