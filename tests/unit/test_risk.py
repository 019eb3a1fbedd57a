"""Risk: the share of months so odd that chance does not explain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.risk import LEAST_USERS, MOST, Risk, alone


def ordinary(users, seed=0):
    return np.random.default_rng(seed).gumbel(1.0, 0.2, users).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_where_nothing_happened_hardly_anybody_is_at_risk(seed):
    found = ordinary(2_000, seed)
    risk = Risk.among(found)
    assert np.mean([risk.of(one) > 0.9 for one in found]) < 0.002
    assert np.median([risk.of(one) for one in found]) < 0.1


def test_of_months_at_a_risk_so_many_hold_something():
    """Fifty incidents among two thousand: of the months at least so odd, the risk's share is theirs."""
    rng = np.random.default_rng(5)
    found = np.concatenate([ordinary(1_950, 5), rng.normal(2.6, 0.4, 50).astype(np.float32)])
    planted = np.arange(2_000) >= 1_950
    risk = Risk.among(found)
    told = np.array([risk.of(one) for one in found])
    for least in (0.3, 0.5, 0.7, 0.9):
        high = told >= least
        assert planted[high].mean() == pytest.approx(told[high].min(), abs=0.1)


@settings(max_examples=30)
@given(
    found=st.lists(st.floats(0, 30, width=32), min_size=LEAST_USERS, max_size=60),
    two=st.tuples(st.floats(0, 40), st.floats(0, 40)),
)
def test_more_evidence_is_never_less_risk(found, two):
    risk = Risk.among(np.array(found, np.float32))
    less, more = sorted(two)
    assert 0 <= risk.of(less) <= risk.of(more) <= MOST


def test_too_few_users_stand_alone():
    assert Risk.among(ordinary(LEAST_USERS - 1)) is None
    assert alone(1.0, 744) == 0
    assert alone(1e-9, 744) == MOST
    assert alone(1e-3, 744) == pytest.approx(0.475, abs=0.01)
