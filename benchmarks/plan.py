"""Ask `anomaly plan` what a month takes, run the month, and say how far off the plan was.

    python -m benchmarks.plan --users 60,300,1000

For each size two months of the same users: the first with training on a machine that knows nothing yet,
the second with the model that is there. Both are whole commands, timed by the clock from outside, so
what else the machine does counts for both; memory is the most that all processes of the command held.
Ends with 1 where an estimate is off by more than a factor of 1.5.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from anomaly.months import Month
from benchmarks.scale import made
from benchmarks.scale.measure import MIB, run, table

if TYPE_CHECKING:
    from collections.abc import Sequence

MONTHS = [Month(2026, number) for number in (1, 2, 3, 4)]
PLANNED = MONTHS[2:]
FACTOR = 1.5
SEED = 1


def lay(folder: Path, users: int) -> list[str]:
    """Rows of so many users and a configuration; gives the command line on them."""
    rows = folder / "rows"
    rows.mkdir(parents=True)
    for month in MONTHS:
        for number in range(-(-users // made.BLOCK_USERS)):
            block = made.block(number, month, SEED, incidents=month in PLANNED)
            some = min(users - number * made.BLOCK_USERS, made.BLOCK_USERS)
            cells = len(block.times) * len(made.METRICS)
            pq.write_table(
                block.table().slice(0, some * cells), rows / f"{month}-{number}.parquet",
                row_group_size=made.GROUP_USERS * cells,
            )  # fmt: skip
    config = folder / "anomaly.toml"
    config.write_text(
        f'[database]\nurl = "sqlite:///{folder}/anomaly.db"\n[source]\npath = "{rows}"\n'
    )
    return [sys.executable, "-m", "pipelines", "--config", str(config)]


def compare(users: int, folder: Path) -> list[list[str]]:
    """Plan and run each month; a line for each."""
    command = lay(folder, users)
    run([*command, "db", "upgrade"], folder)
    run([*command, "schedule", "--once", "ingest"], folder)
    lines = []
    for month in PLANNED:
        asked = run([*command, "plan", "--month", str(month), "--format", "json"], folder)
        plan = json.loads(asked.said[asked.said.rindex("\n{") :])
        took = run([*command, "run", "--month", str(month)], folder)
        lines.append(
            [
                f"{users:,}", "trained" if plan["learnt"] else "kept", f"{asked.clock:.0f}",
                f"{plan['seconds']:.0f}", f"{took.clock:.0f}", f"{plan['seconds'] / took.clock:.2f}",
                f"{plan['memory'] / MIB:,.0f}", f"{took.memory / MIB:,.0f}",
                f"{plan['memory'] / took.memory:.2f}",
            ]
        )  # fmt: skip
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", default="60,300", help="sizes, such as 60,300,1000")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="anomaly-plan-") as place:
        lines = [
            line
            for size in given.users.split(",")
            for line in compare(int(size), Path(place) / size)
        ]
    columns = [
        "users", "model", "planning, s", "planned, s", "took, s", "ratio", "planned, MiB", "held, MiB",
        "ratio",
    ]  # fmt: skip
    table("Plans beside what the months then took", columns, lines)
    ratios = [float(line[place]) for line in lines for place in (5, 8)]
    return int(any(not 1 / FACTOR <= ratio <= FACTOR for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
