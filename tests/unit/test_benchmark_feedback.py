import datetime as dt
from dataclasses import replace

from benchmarks.feedback import ARMS, Seen, after_feedback
from tests.contracts.conftest import FLAG

MONTHS = ("2026-04", "2026-05", "2026-06", "2026-07")


def seen(month, number, true):
    start = dt.datetime.fromisoformat(f"{month}-10T00:00:00+00:00")
    kind, score = ("burst", 3.0) if true else ("shift", 1.1)
    flag = replace(
        FLAG, flag_id=f"{month}{number}", user_id=f"u{number}", start=start, kind=kind, score=score
    )
    return Seen(flag, month, "everyone", true)


def test_verdicts_take_false_flags_away_and_keep_true_ones_of_other_kinds():
    flags = [seen(month, number, number >= 40) for month in MONTHS for number in range(50)]
    none, suppressed, refitted = (after_feedback(flags, arm, 1, 1.25, 0.0) for arm in ARMS)
    assert (none.flags, none.true) == (50, 10)
    assert suppressed.flags < none.flags
    assert refitted.flags <= suppressed.flags
    assert suppressed.true == refitted.true == none.all_true == 10
    assert refitted.other == refitted.all_other == 10
