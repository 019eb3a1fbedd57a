"""Where the time of a month goes: py-spy's samples of all its processes, shared out by part."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.scale.measure import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.scale.world import World

RATE = 50  # samples a second

# The first part with a frame in a stack has it: what flags ask of the likelihood counts as flags.
PARTS = {
    "start: imports": r"<frozen importlib",
    "the network": r"\bread \(anomaly/networks/runtime",
    "flags: windows, how odd they are by simulation, words; bands for plots": (
        r"(select|cores|shows|flag|story) \(anomaly/(flags|telling)|\bband \(anomaly/engine"
    ),
    "users' months: comparison with peers and everyone, risk": r"user_months \(anomaly/telling",
    "tails of the likelihood": r"log_odds \(anomaly/surprise",
    "the twin: its forecast, what it learns, the network's inputs": r"anomaly/(twin|features|calendar|reading)",
    "maps from scores to probabilities": r"anomaly/calibration|deviations \(anomaly/surprise",
    "window sums, own history, evidence": r"anomaly/(scan|scanning|shapes)",
    "reading: rows looked over, laid out": r"anomaly/sources|read_panel \(|anomaly/store/(observations|inbox)",
    "states: read, packed, written": r"anomaly/states|anomaly/store/states",
    "publishing": r"anomaly/store",
}
OTHER = "all else"
WAITS = (
    r"\bwait \(threading\.py:\d+\)$"  # py-spy takes a thread that has just woken for one at work
)


def recorded(laid: World, command: list[str]) -> list[str]:
    """Stacks of the command's processes, root first, each with how often it was seen."""
    file = laid.folder / "stacks.txt"
    spy = ["py-spy", "record", "--subprocesses", "--format", "raw", "--rate", str(RATE)]
    run([*spy, "--output", str(file), "--", *command], laid.folder)
    return file.read_text(encoding="utf-8").splitlines()


def shared_out(stacks: Iterable[str]) -> dict[str, float]:
    """The share of each part, the largest first."""
    counts = Counter[str]()
    for line in stacks:
        stack, _, seen = line.rpartition(" ")
        if not re.search(WAITS, stack):
            counts[part_of(stack)] += int(seen)
    whole = max(1, counts.total())
    return {part: count / whole for part, count in counts.most_common()}


def part_of(stack: str) -> str:
    """The part that a stack belongs to."""
    return next((part for part, frames in PARTS.items() if re.search(frames, stack)), OTHER)
