"""The threshold fitted to verdicts, within the budget."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from anomaly.refit import LOST, Judged, refit

NIGHT = ("files_read", "shift", "up")
BURST = ("files_read", "burst", "up")


def many(group, right, scores):
    return [Judged(group, score, right) for score in scores]


def fitted(judged, budget, user_months=1_000):
    return refit(judged, Counter(one.group for one in judged), user_months, budget)


def test_too_few_verdicts_change_nothing():
    found = fitted(many(NIGHT, False, [1.1] * 19), 1)
    assert (found.groups, found.before) == ((), None)
    assert "19 flags have a verdict; from 20 on" in found.words


def test_within_the_budget_nothing_is_asked_for():
    found = fitted(many(NIGHT, False, [1.1] * 20), 20)
    assert [group.least_score for group in found.groups] == [None]
    assert "20.0 false flags per 1,000 user-months, the budget is 20. Nothing" in found.words


def test_the_group_where_only_false_flags_go_is_raised_first():
    judged = [
        *many(NIGHT, False, [1.1, 1.2, 1.3, 1.4]), *many(NIGHT, True, [1.05, 1.25, 1.35]),
        *many(BURST, False, [1.1, 1.2, 1.3, 1.4]), *many(BURST, True, [2 + n / 10 for n in range(20)]),
    ]  # fmt: skip
    found = fitted(judged, 4)
    floors = {group.kind: group.least_score for group in found.groups}
    assert floors == {"burst": 1.4001, "shift": None}
    assert (found.before, found.after) == (8, 4)


def test_flags_without_a_verdict_are_counted_as_their_group():
    judged = many(NIGHT, False, [1.1 + n / 100 for n in range(10)]) + many(NIGHT, True, [3.0] * 10)
    found = refit(judged, {NIGHT: 200}, 1_000, 50)
    assert found.before == 100
    assert found.groups[0].least_score == 1.1401


judged_flags = st.lists(
    st.builds(
        Judged,
        st.sampled_from([NIGHT, BURST]),
        st.floats(1, 20).map(lambda score: round(score, 4)),
        st.booleans(),
    ),
    min_size=20,
    max_size=80,
)


@given(judged=judged_flags, budget=st.floats(0.1, 100))
def test_few_true_flags_are_ever_lost_and_false_ones_never_come(judged, budget):
    found = fitted(judged, budget)
    assert found.after <= found.before
    floors = {(one.metric, one.kind, one.direction): one.least_score or 0 for one in found.groups}
    right = [one for one in judged if one.right]
    assert sum(one.score < floors[one.group] for one in right) <= LOST * len(right)


def test_a_group_whose_few_verdicts_had_no_true_flag_by_luck_is_not_silenced():
    """Half of all flags of such scores are right: of ten that were, no more than one may go."""
    everywhere = [Judged(NIGHT, 1 + n / 100, n % 2 == 0) for n in range(20)]
    few = many(BURST, False, [1.05 + n / 50 for n in range(6)])
    floors = {group.kind: group.least_score for group in fitted(everywhere + few, 1).groups}
    assert floors["burst"] is None or floors["burst"] < max(one.score for one in few)


@given(judged=judged_flags)
def test_a_smaller_budget_never_asks_for_less(judged):
    loose, tight = fitted(judged, 40), fitted(judged, 5)
    assert tight.after <= loose.after
    for one, other in zip(loose.groups, tight.groups, strict=True):
        assert (other.least_score or 0) >= (one.least_score or 0)
