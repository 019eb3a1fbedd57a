"""Who is chosen where not all users can be looked at."""

from __future__ import annotations

from collections import Counter

from pipelines.jobs.reading import LEAST_OF_GROUP, sample

MANY = [f"user-{number:05d}" for number in range(3_000)]
FEW = [f"night-{number:02d}" for number in range(25)]
GROUPS = dict.fromkeys(MANY, "day") | dict.fromkeys(FEW, "night")


def test_the_same_are_chosen_whoever_else_is_there():
    chosen = set(sample(MANY, 200))
    again = set(sample([*MANY, *FEW], 200))
    assert len(chosen) == 200
    assert len(chosen - again) <= len(again & set(FEW))


def test_small_groups_are_heard():
    by_hash = Counter(GROUPS[user] for user in sample([*MANY, *FEW], 200))
    fair = Counter(GROUPS[user] for user in sample([*MANY, *FEW], 200, GROUPS))
    assert by_hash["night"] < LEAST_OF_GROUP <= fair["night"]
    assert fair.total() == 200


def test_many_groups_take_at_most_half_of_the_sample():
    alone = {user: user for user in FEW}
    chosen = sample([*MANY, *FEW], 20, alone | dict.fromkeys(MANY, "day"))
    assert len(chosen) == 20
    assert sample(FEW, 100, GROUPS) == tuple(FEW)
