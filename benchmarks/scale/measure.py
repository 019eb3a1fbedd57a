"""What a command costs: processor time, time on the clock, and memory of all its processes together."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

EVERY_SECONDS = 0.05
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """cpu: seconds of user and system time, of children too. clock: seconds. memory: bytes, the most
    that all processes held at once. said: what the command printed.
    """

    cpu: float
    clock: float
    memory: int
    said: str


def run(command: Sequence[str], folder: Path) -> Cost:
    """Run a command to its end.

    Raises: RuntimeError with what it said if it fails.
    """
    log, began = folder / "said.txt", time.perf_counter()
    most = 0
    with log.open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        watched = psutil.Process(process.pid)
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            most = max(most, held(watched))
            time.sleep(EVERY_SECONDS)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8")
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(command[:8])} ended with {process.returncode}:\n{text[-3_000:]}"
        )
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - began, most, text)


def held(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total


def cpu_of(work: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of this process for the work, the least of a few times."""
    least = float("inf")
    for _ in range(times):
        began = time.process_time()
        work()
        least = min(least, time.process_time() - began)
    return least


def table(title: str, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a Markdown table under a title."""
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    print(f"\n{title}\n")
    for number, row in enumerate(cells):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
