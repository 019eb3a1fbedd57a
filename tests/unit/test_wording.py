from anomaly.wording import listed, percent, score, share


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


def test_names_are_listed_up_to_some_and_it_is_said_that_there_are_more():
    assert listed(["ann", "bob"], 2) == "ann, bob"
    assert listed(["ann", "bob", "cyd"], 2) == "ann, bob, ..."
