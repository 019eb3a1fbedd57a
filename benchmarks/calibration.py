"""Whether chances are true, and the budget kept, where nothing happens: made worlds without incidents.

    python -m benchmarks.calibration                        three worlds of 300 users
    python -m benchmarks.calibration --users 100 --seeds 1  a look

Each world is learnt from for three months; chances are judged on the part of it that neither training
nor the maps have seen, flags on the fourth month, where every flag is false.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from anomaly import detect
from anomaly.calibration_report import DEPTHS, WITHIN, Calibration
from anomaly.simulation import make_world
from benchmarks.scale.measure import table

MONTHS = 4
MONTH = pd.Timestamp("2026-04-01", tz="UTC")


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a world without incidents came to. false: flags per 1,000 user-months."""

    calibration: Calibration
    false: float


def quiet(users: int, seed: int) -> Quiet:
    """Learn a world in which nothing happens, and score its last month."""
    world = make_world(users=users, months=MONTHS, start="2026-01", seed=seed, incident_share=0.0)
    frame = world.observations.to_pandas()
    found = detect(frame, MONTH.to_pydatetime())
    there = frame.loc[frame["observed_at"] >= MONTH, "user_id"].nunique()
    return Quiet(found.model.calibration, 1_000 * len(found.flags) / there)


def lines(calibrations: list[Calibration]) -> list[list[object]]:
    """A line for each kind of group and depth: over all worlds, how many groups say something, the
    middle ratio and its reach, and how many certainly miss the factor.
    """
    out: list[list[object]] = []
    for kind in ("all", "metric", "cohort", "hour"):
        for depth in DEPTHS:
            rows = [
                row
                for one in calibrations
                for row in one.rows(kind)
                if row.promised == depth and row.enough and row.side != "both"
            ]
            if rows:
                ratios = np.array([row.ratio for row in rows])
                off = sum(row.off for row in rows)
                out.append([
                    kind, f"1 in {1 / depth:,.0f}", len(rows), f"{np.median(ratios):.2f}",
                    f"{ratios.min():.2f} to {ratios.max():.2f}", off,
                ])  # fmt: skip
    return out


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    worlds = [quiet(given.users, seed) for seed in range(1, given.seeds + 1)]
    columns = [
        "groups", "promised", "groups and sides", "middle ratio", "least to most", "certainly off",
    ]  # fmt: skip
    title = f"Seen over promised, aimed at {1 / WITHIN:.2f} to {WITHIN:.2f}"
    table(title, columns, lines([world.calibration for world in worlds]))
    false = [world.false for world in worlds]
    shown = ", ".join(f"{one:.1f}" for one in false)
    print(f"\nFalse flags per 1,000 user-months: {shown}; mean {np.mean(false):.1f}, budget 20.")


if __name__ == "__main__":
    main()
