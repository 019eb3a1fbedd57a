"""Charts of the operator's page: which way bars point."""

from anomaly.web.operating import chart_of


def bars(*values):
    chart = chart_of("t", "n", [(str(place), value) for place, value in enumerate(values)])
    return chart.zero, [(bar.top, bar.height) for bar in chart.bars]


def test_positive_figures_stand_on_zero():
    assert bars(1.0, 2.0) == (100, [(50, 50), (0, 100)])


def test_negative_figures_hang_from_zero():
    assert bars(-1.0, -2.0) == (0, [(0, 50), (0, 100)])


def test_figures_of_both_signs_share_one_line_of_zero():
    assert bars(3.0, -1.0) == (75, [(0, 75), (75, 25)])


def test_nothing_but_zero_is_a_line():
    assert bars(0.0) == (0, [(0, 0)])
