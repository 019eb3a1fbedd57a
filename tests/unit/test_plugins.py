"""Names that settings may take from other packages, and what is said of those that nothing has."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from anomaly import plugins
from anomaly.exceptions import SettingsError
from anomaly.settings import Settings, configuration_hash, with_values
from anomaly.sources.prometheus import PrometheusReader
from anomaly.sources.readers import open_reader


@pytest.fixture
def installed(monkeypatch):
    """Entry points as if a package had brought them."""
    plugins.names.cache_clear()
    plugins.load.cache_clear()
    points = [
        EntryPoint("mine", "collections:Counter", "anomaly.thresholds"),
        EntryPoint("broken", "nowhere.at_all:Thing", "anomaly.thresholds"),
    ]

    def found(group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(plugins, "entry_points", found)
    yield
    plugins.names.cache_clear()
    plugins.load.cache_clear()


def test_ours_are_found_beside_theirs(installed):
    assert plugins.names("sources") == ("prometheus",)
    assert plugins.load("sources", "prometheus") is PrometheusReader
    assert plugins.names("thresholds") == ("broken", "mine")
    settings = with_values(Settings(), "test", "threshold", kind="mine", options={"a": 1})
    assert settings.threshold.kind == "mine"


def test_a_name_that_nothing_has_is_refused_with_those_that_there_are(installed):
    with pytest.raises(SettingsError, match="'yours' is none of budget, .*broken, mine. Install"):
        with_values(Settings(), "test", "threshold", kind="yours")
    with pytest.raises(SettingsError, match="'minimal' is none of lstm, rnn, gru"):
        with_values(Settings(), "test", "model", cell="minimal")
    with pytest.raises(SettingsError, match="is not there: none is installed"):
        plugins.load("calendars", "factory")


def test_one_that_cannot_be_imported_says_where_it_comes_from(installed):
    with pytest.raises(SettingsError, match=r"nowhere.at_all:Thing.*ModuleNotFoundError"):
        plugins.load("thresholds", "broken")


def test_options_that_a_reader_does_not_take_are_refused():
    with pytest.raises(
        SettingsError, match=r"\[source\] options: reader 'prometheus' says: .*colour"
    ):
        open_reader("prometheus", {"colour": "red"})


def test_options_are_part_of_a_result_and_their_absence_changes_no_flag_id():
    plain = Settings()
    assert configuration_hash(plain) == configuration_hash(
        with_values(plain, "test", "threshold", kind=None)
    )
    chosen = with_values(plain, "test", "threshold", options={"margin": 1})
    assert configuration_hash(chosen) != configuration_hash(plain)
    read = with_values(plain, "test", "source", options={"url": "http://other"})
    assert configuration_hash(read) == configuration_hash(plain)
