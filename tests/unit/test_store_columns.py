import datetime as dt

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from anomaly.records import Band
from anomaly.store import series
from anomaly.store.columns import Instant, instant_text
from anomaly.store.observations import instant
from anomaly.store.tables import METADATA

YEAR_1000, YEAR_9999 = -30_610_224_000, 253_370_764_800  # seconds since 1970
instants = st.integers(YEAR_1000 * 10**6, YEAR_9999 * 10**6).map(instant)


@given(a=instants, b=instants)
def test_text_sorts_by_time(a, b):
    assert (instant_text(a) < instant_text(b)) == (a < b)


@given(when=instants)
def test_text_comes_back_as_it_went(when):
    assert dt.datetime.fromisoformat(instant_text(when)) == when


def test_an_analyst_can_read_it():
    berlin = dt.timezone(dt.timedelta(hours=2))
    assert instant_text(dt.datetime(2026, 7, 1, 2, tzinfo=berlin)) == "2026-07-01T00:00:00+00:00"


def test_sqlite_understands_the_text():
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        when = dt.datetime(2026, 7, 1, 2, 30, 0, 250_000, tzinfo=dt.UTC)
        query = sa.select(sa.func.strftime("%H:%M:%f", sa.literal(when, Instant)))
        assert connection.execute(query).scalar_one() == "02:30:00.250"
    engine.dispose()


@pytest.mark.parametrize("table", METADATA.tables.values(), ids=lambda table: table.name)
def test_every_number_is_kept_finite_or_may_be_unknown(table):
    checks = " ".join(
        str(rule.sqltext) for rule in table.constraints if isinstance(rule, sa.CheckConstraint)
    )
    results = {"observations", "flags", "user_months"}
    for column in table.c:
        if isinstance(column.type, sa.Double) and table.name in results:
            assert f"{column.name} BETWEEN" in checks


@given(values=st.lists(st.floats(width=32), max_size=40))
def test_a_band_comes_back_as_it_was_packed(values):
    line = np.array(values, dtype=np.float32)
    times = np.arange(len(values), dtype=np.int64) * 3_600
    back = series.unpacked(series.packed(Band(times, line, line, line, line)))
    assert back is not None
    np.testing.assert_array_equal(back.times, times, strict=True)
    np.testing.assert_array_equal(back.upper, line, strict=True)


def test_no_band_is_none():
    assert series.unpacked(series.packed(None)) is None
