from anomaly.wording import percent, score, share


def test_a_score_below_the_boundary_never_reads_as_one():
    assert score(0.9999) == "0.99"
    assert score(1.0) == "1.00"
    assert score(1.15) == "1.15"


def test_a_percentile_never_reads_as_certainty():
    assert percent(99.97) == "99.9 %"
    assert percent(64.1) == "64.1 %"
    assert percent(100.0) == "100 %"
    assert percent(float("nan")) == "unknown"
    assert [share(value) for value in (0.9996, 0.5, None)] == ["99.9 %", "50 %", "unknown"]
