"""What hits everyone explains; it accuses no one."""

import numpy as np
import pytest

from anomaly.surprise import common_shock, take_off


@pytest.mark.parametrize(
    ("deviation", "common", "left"),
    [
        (-2.0, -1.5, -0.5),  # did less than everyone who did little
        (-1.0, -1.5, 0.0),  # did little, as everyone
        (0.0, -1.5, 0.0),  # is never there on such a day
        (1.0, -1.5, 1.0),  # did more, whatever the others did
        (3.0, 1.5, 1.5),
    ],
)
def test_a_deviation_is_explained_down_to_nothing_and_no_further(deviation, common, left):
    found = take_off(np.full((1, 1, 1), deviation, np.float32), np.full((1, 1), common, np.float32))
    assert found.item() == pytest.approx(left)


def test_a_holiday_makes_no_one_odd_who_is_never_there():
    holiday = np.concatenate([np.full(30, -2.0), np.zeros(10)]).astype(np.float32)[:, None, None]
    common = common_shock(holiday, np.ones((40, 1), bool))
    left = np.abs(take_off(holiday, common))
    assert (left[:30] < 1.5).all()
    assert not left[30:].any()
