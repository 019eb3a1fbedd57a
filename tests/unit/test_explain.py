"""The sentence of a flag says what its columns say, and nothing else."""

import datetime as dt
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.explain import HOW, Compared, Size, Story, sentence
from anomaly.metrics import MetricSpec
from anomaly.records import KINDS
from tests.fixtures.sentences import SCALES, disagreements

SPECS = (MetricSpec("files_read"), MetricSpec("cpu", kind="gauge"), MetricSpec("log_ons"))
START = dt.datetime(2026, 10, 14, 22, tzinfo=dt.UTC)
amounts = st.floats(0, 1e15).map(lambda value: float(f"{value:.6g}"))
percentiles = st.floats(0, 100).map(lambda value: round(value, 2))


def columns(size: Size, compared: Compared, hours: int, zone: str) -> dict[str, object]:
    return {
        "user_id": "u0412", "start": START, "end": START + dt.timedelta(hours=hours),
        "observed": size.observed, "expected": size.expected, "lower": size.lower, "upper": size.upper,
        "self_percentile": compared.self_percentile, "peer_percentile": compared.peer_percentile,
        "peer_count": compared.peer_count, "timezone": zone,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS, "course"])
@settings(max_examples=30)
@given(
    size=st.builds(Size, amounts, amounts, amounts, amounts),
    compared=st.builds(
        Compared, st.booleans(), percentiles, percentiles, percentiles, st.integers(0, 5_000)
    ),
    hours=st.sampled_from([1, 4, 24, 26, 200]),
    first=st.sampled_from([0, 1]),
    cohort=st.sampled_from(["everyone", "cohort-3"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
)
def test_every_number_of_the_sentence_is_a_column(kind, size, compared, hours, first, cohort, zone):
    by_course = kind == "course"
    story = Story((first, 2), "up", "shift" if by_course else kind, size, by_course=by_course)
    end = START + dt.timedelta(hours=hours)
    text = sentence(
        "u0412", story, SPECS, START, end, zone, compared, cohort, continues=hours == 200
    )
    assert disagreements(text, columns(size, compared, hours, zone)) == []


def test_each_kind_is_told_in_its_own_words():
    assert set(HOW) == set(KINDS)
    assert len(set(HOW.values())) == len(KINDS)


def test_a_sentence_as_an_analyst_reads_it():
    story = Story((0,), "up", "burst", Size(310.0, 5.0, 0.0, 12.0))
    end = START + dt.timedelta(hours=4)
    compared = Compared(True, 99.98, 100.0, 100.0, 38)
    assert sentence("u0412", story, SPECS, START, end, "UTC", compared, "cohort-2", False) == (
        "u0412: files_read came to 310 between 22:00 on 14 October 2026 and 02:00 on 15 October "
        "2026 (UTC), unusually much: 0 to 12 expected, 5 most likely. More surprising than 99.98 % "
        "of the user's own past and than all 38 other members of cohort-2 at that time."
    )


def test_huge_numbers_are_words():
    story = Story((0,), "up", "burst", Size(3.1e9, 2.5e7, 0.0, 1e8))
    text = sentence(
        "u", story, SPECS, START, START + dt.timedelta(hours=1), "UTC", Compared(False, 50, 50, 50, 0),
        "everyone", False,
    )  # fmt: skip
    assert "came to 3.1 billion" in text
    assert "0 to 100 million expected, 25 million most likely" in text
    assert re.search(r"\de\d", text) is None
    assert set(SCALES) == {"million", "billion", "trillion"}
