from anomaly.panel import evenly


def test_a_selection_spread_evenly_takes_both_ends():
    assert evenly(100, 3).tolist() == [0, 49, 99]
    assert evenly(2, 5).tolist() == [0, 1]
