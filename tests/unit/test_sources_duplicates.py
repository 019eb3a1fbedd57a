import tempfile

import numpy as np
import pytest

from anomaly.exceptions import SourceError
from anomaly.sources import duplicates
from anomaly.sources.duplicates import Seen, hashed


def look(seen, users, instants, values):
    equal, contradicts = seen.repeats(
        hashed(users), hashed(["m"] * len(users)), np.array(instants), np.array(values, dtype=float)
    )
    return equal.tolist(), contradicts.tolist()


def test_the_first_value_of_a_key_stands_in_its_block_and_all_later_ones():
    seen = Seen()
    assert look(seen, ["a", "a", "a", "b"], [1, 1, 1, 1], [5, 5, 6, 7]) == (
        [False, True, False, False],
        [False, False, True, False],
    )
    assert look(seen, ["b", "c", "a"], [1, 1, 1], [7, 8, 6]) == (
        [True, False, False],
        [False, False, True],
    )
    assert look(seen, ["c", "a"], [1, 2], [9, 5]) == ([False, False], [True, False])


def test_no_rows_are_no_repeats():
    seen = Seen()
    assert look(seen, [], [], []) == ([], [])
    assert look(seen, ["a"], [1], [1]) == ([False], [False])


def test_user_metric_and_instant_make_the_key():
    users, metrics = hashed(["a", "b"]), hashed(["b", "a"])
    equal, contradicts = Seen().repeats(users, metrics, np.array([1, 1]), np.array([1.0, 1.0]))
    assert not equal.any()
    assert not contradicts.any()


def test_a_full_disk_is_named(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(SourceError, match=r"No space left on device.*TMPDIR"):
        look(Seen(), ["a"], [1], [1])


def test_many_blocks_agree_with_one(monkeypatch):
    monkeypatch.setattr(duplicates, "FILTER_BITS", 4)  # nearly every key is a suspect
    rng = np.random.default_rng(0)
    users = np.array(["a", "b", "c"])[rng.integers(0, 3, 600)].tolist()
    instants, values = rng.integers(0, 150, 600), rng.integers(0, 2, 600)
    whole = look(Seen(), users, instants, values)
    seen = Seen()
    parts = [
        look(
            seen,
            users[first : first + 50],
            instants[first : first + 50],
            values[first : first + 50],
        )
        for first in range(0, 600, 50)
    ]
    for place in (0, 1):
        assert [mark for part in parts for mark in part[place]] == whole[place]
    assert any(whole[0])
    assert any(whole[1])
