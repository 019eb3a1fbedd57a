"""A folder of Parquet files as [source] path: read where it lies, scored as if it had been imported."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from anomaly.exceptions import DataError, UsageError
from anomaly.months import Month
from anomaly.settings import Settings
from pipelines.jobs.ingest import ingest_file, ingest_source
from pipelines.jobs.month import run_month
from pipelines.services import place
from tests.fixtures.jobs import Clock, at, behaviour, make_services

PEAKS = {("u2", "2026-03-11T03:00"): 2_000.0}
MONTHS = ("2026-01", "2026-02", "2026-03")
MARCH = Month.parse("2026-03")


def lay_down(folder, rows: pa.Table, months=MONTHS) -> None:
    """A file for each month, by user and time."""
    for month in months:
        named = pc.equal(pc.strftime(rows["observed_at"], "%Y-%m"), month)
        place_of = folder / f"month={month}"
        place_of.mkdir(parents=True, exist_ok=True)
        some = rows.filter(named).sort_by(
            [(name, "ascending") for name in ("user_id", "observed_at", "metric")]
        )
        pq.write_table(some, place_of / "part-0.parquet", row_group_size=len(some) // 4)


def services_on(url, folder, rows, shard_users=500):
    """Services with rows, a folder, as their source."""
    settings = Settings.model_validate(
        {
            "database": {"url": url},
            "run": {
                "workers": 1,
                "shard_users": shard_users,
                "artefacts": str(folder / "artefacts"),
            },
            "source": {"path": str(rows)},
        }
    )
    made = make_services(url, folder, Clock(at("2026-04-10")), settings)
    place(made.settings, made.store, made.artefacts.folder, made.clock)
    return made


@pytest.fixture
def services(database_url, tmp_path):
    made = services_on(database_url, tmp_path, tmp_path / "rows")
    yield made
    made.store.close()


def told(outcome):
    return [
        (flag.user_id, flag.start, flag.end, flag.score, flag.metrics) for flag in outcome.flags
    ]


def test_a_month_from_files_equals_one_that_was_imported(services, tmp_path):
    rows = behaviour("2026-01", "2026-03", peaks=PEAKS)
    lay_down(tmp_path / "rows", rows)
    in_place = run_month(services, MARCH)
    assert services.store.in_place
    assert not services.store.kept.any()
    assert in_place.flags
    (tmp_path / "other").mkdir()
    url = f"sqlite:///{tmp_path}/other/a.db"
    other = make_services(url, tmp_path / "other", Clock(at("2026-04-10")))
    other.store.observations.write(rows, "test")
    assert told(run_month(other, MARCH)) == told(in_place)
    other.store.close()


def test_only_new_files_are_looked_over(services, tmp_path):
    rows = behaviour("2026-01", "2026-03", peaks=PEAKS)
    lay_down(tmp_path / "rows", rows, MONTHS[:2])
    first = ingest_source(services)
    lay_down(
        tmp_path / "rows",
        rows.filter(pc.greater_equal(rows["observed_at"], MARCH.start("UTC"))),
        MONTHS[2:],
    )
    second = ingest_source(services)
    assert first.tally.read + second.tally.read == len(rows)
    assert ingest_source(services).tally.read == 0
    found = services.store.observations
    assert found.count() == len(rows)
    assert found.count(MARCH.start("UTC"), MARCH.end("UTC")) == second.tally.read


def test_what_is_read_in_place_equals_what_the_database_says(services, tmp_path):
    rows = behaviour("2026-01", "2026-03", users=7)
    lay_down(tmp_path / "rows", rows)
    ingest_source(services)
    files, table = services.store.observations, services.store.kept
    middle = MARCH.start("UTC").replace(day=11, hour=5)
    ask = [
        lambda o: o.users(), lambda o: o.metrics(), lambda o: o.metrics(before=middle), lambda o: o.span(),
        lambda o: o.first_seen(), lambda o: o.last_seen(before=middle), lambda o: o.count(middle, None),
        lambda o: o.first_seen(o.users()[2:4]),
        lambda o: sorted(
            map(str, pa.concat_tables(o.read(middle, None, o.users()[1:5])).cast(rows.schema).to_pylist())
        ),
    ]  # fmt: skip
    answers = [question(files) for question in ask]
    table.write(rows, "test")
    assert [question(table) for question in ask] == answers


def test_bad_rows_are_set_aside_and_the_rest_is_read_in_place(services, tmp_path):
    rows = behaviour("2026-01", "2026-03", users=7)
    values = rows["value"].to_pylist()
    values[100] = float("nan")
    lay_down(
        tmp_path / "rows", rows.set_column(rows.column_names.index("value"), "value", [values])
    )
    done = ingest_source(services)
    assert dict(done.tally.reasons) == {"not_finite": 1}
    assert sum(map(len, services.store.observations.read())) == len(rows) - 1
    assert services.store.rejects.counts() == {"not_finite": 1}


def test_a_file_with_too_many_bad_rows_is_refused_and_looked_over_again(services, tmp_path):
    rows = behaviour("2026-01", "2026-01", users=7)
    lay_down(
        tmp_path / "rows",
        rows.set_column(rows.column_names.index("value"), "value", [[float("inf")] * len(rows)]),
        MONTHS[:1],
    )
    for _ in range(2):
        with pytest.raises(DataError, match="rows are bad"):
            ingest_source(services)


def test_files_that_lie_by_time_are_copied(services, tmp_path):
    rows = behaviour("2026-01", "2026-03", users=24).sort_by("observed_at")
    (tmp_path / "rows").mkdir()
    pq.write_table(rows, tmp_path / "rows" / "all.parquet", row_group_size=1_000)
    made = services_on(services.settings.database.url, tmp_path, tmp_path / "rows", shard_users=2)
    ingest_source(made)
    assert not made.store.in_place
    assert made.store.kept.count() == len(rows)
    made.store.close()


def test_nothing_is_imported_beside_files_that_are_read_in_place(services, tmp_path):
    rows = behaviour("2026-01", "2026-01", users=7)
    lay_down(tmp_path / "rows", rows, MONTHS[:1])
    ingest_source(services)
    pq.write_table(rows, tmp_path / "more.parquet")
    with pytest.raises(UsageError, match="read in place"):
        ingest_file(services, tmp_path / "more.parquet")


def test_once_somebody_is_erased_files_are_copied_without_them(services, tmp_path, monkeypatch):
    rows = behaviour("2026-01", "2026-02", users=7)
    lay_down(tmp_path / "rows", rows, MONTHS[:2])
    ingest_source(services)
    assert services.store.in_place
    monkeypatch.setattr(services.store.erasing, "erased", lambda: {"u3": at("2026-04-01")})
    assert not services.store.in_place
    assert services.store.observations is services.store.kept


def test_names_that_are_replaced_are_not_read_in_place(services):
    hidden = services.settings.model_copy(
        update={"privacy": services.settings.privacy.model_copy(update={"pseudonymise": True})}
    )
    assert place(hidden, services.store, services.artefacts.folder, services.clock) is None
