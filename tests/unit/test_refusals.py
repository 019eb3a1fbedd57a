"""Refused log-ons: who tries for a day cannot fill the audit."""

from __future__ import annotations

import datetime as dt

from anomaly.web.refusals import NAMED, OTHERS, Refusals

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def test_of_one_address_the_powers_of_ten_are_written():
    refusals = Refusals()
    written = [refusals.count("address:a", NOON) for _ in range(14_400)]  # ten a minute for a day
    assert [one for one in written if one] == [
        ("address:a", number) for number in (1, 10, 100, 1_000, 10_000)
    ]


def test_many_addresses_are_written_together():
    refusals = Refusals()
    written = [refusals.count(f"address:{number}", NOON) for number in range(10_000)]
    named = {one[0] for one in written if one}
    assert named == {f"address:{number}" for number in range(NAMED)} | {OTHERS}
    assert sum(one is not None for one in written) == NAMED + 4  # 1, 10, 100, 1,000 of the others


def test_a_day_later_it_is_told_anew():
    refusals = Refusals()
    refusals.count("address:a", NOON)
    later = NOON + dt.timedelta(hours=23)
    assert refusals.count("address:a", later) is None
    assert refusals.count("address:a", NOON + dt.timedelta(days=1)) == ("address:a", 1)
