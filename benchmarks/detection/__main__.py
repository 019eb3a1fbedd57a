"""Compare arms on sets, and write docs/benchmark.md.

    python -m benchmarks.detection --quick                    a look: made worlds only, small
    python -m benchmarks.detection --data DIR                 the product, its twin and the baselines on all
    python -m benchmarks.detection --data DIR --sample        all arms, on a part of each set
    python -m benchmarks.detection --arms gru,ablation --sets behaviour,worlds --data DIR

DIR holds labelled sets, each a folder, and evaluate.py that scores them; ANOMALY_BENCHMARK_DATA names
it too. Results are kept in --cache, so that an interrupted run goes on, and pages are written from
all that is kept there for this version of the code, whatever arms were asked for this time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from anomaly import __version__
from anomaly.exceptions import AnomalyError, SettingsError, UsageError
from benchmarks.detection import report, runner
from benchmarks.detection.arms import ARMS, GROUPS, Arm, choose
from benchmarks.detection.judging import agreement, figures
from benchmarks.detection.sets import known_sets
from benchmarks.detection.store import Store
from benchmarks.detection.versions import BASELINES, ENGINE, SIMULATION, STRANGERS, code_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.detection.runner import Outcome, Task
    from benchmarks.detection.sets import BenchmarkSet

VARIABLE = "ANOMALY_BENCHMARK_DATA"
CACHE = Path(".cache/benchmark")
PAGE = Path("docs/benchmark.md")
USUAL_ARMS = {
    "quick": ("default", "baseline"), "sample": GROUPS, "full": ("default", "baseline", "twin"),
}  # fmt: skip
MAKERS = (ENGINE, BASELINES, SIMULATION, STRANGERS)
APART = ("behaviour_hourly",)  # only if asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 if an arm failed in a way that nobody foresaw."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        return _run(options, console)
    except AnomalyError as error:
        console.print(str(error), style="red", markup=False)
        return error.exit_code


def _run(options: argparse.Namespace, console: Console) -> int:
    size = options.size
    arms = choose(options.arms or USUAL_ARMS[size])
    sets = known_sets(options.data)
    chosen = _sets(sets, options.sets)
    store = Store(options.cache)
    if options.data is None:
        console.print(f"No --data and no {VARIABLE}: labelled sets are left out.", style="yellow")
    skipped = {arm.name: reason for arm in ARMS if (reason := _refused(arm))}
    arms = [arm for arm in arms if arm.name not in skipped]
    todo, done = runner.tasks(arms, chosen, size, store)
    console.print(f"{len(todo)} to do, {done} kept from before.")
    start_up = _warm_up() if options.jobs == 1 and any(_learns(task) for task in todo) else None
    failed = []
    for outcome in _watched(todo, options, console):
        if outcome.skipped:
            skipped[outcome.task.arm] = outcome.skipped
        if outcome.failed:
            failed.append(outcome)
            where = f"{outcome.task.arm} on {outcome.task.of.name}, {outcome.task.part}"
            console.print(f"{where}: {outcome.failed}", style="red", markup=False)
    shown = chosen if size == "quick" else sets
    sizes = ("quick",) if size == "quick" else ("full", "sample")
    tables = [table for each in sizes for one in shown for table in _tables(one, each, store)]
    order = {one.name: place for place, one in enumerate(sets)}
    tables.sort(key=lambda table: order[table.of.name])
    agreed = _agreement(shown, sizes[0], store)
    lines = _circumstances(options, start_up)
    out = options.out or (PAGE if size != "quick" else None)
    by_hand = report.kept_by_hand(out.read_text()) if out and out.exists() else report.BY_HAND
    text = report.page(
        tables, ARMS, report.Circumstances(lines), agreed, skipped, by_hand if out else ""
    )
    if out:
        out.write_text(text, encoding="utf-8")
        console.print(f"Written: {out}")
    else:
        print(text)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    given = os.environ.get(VARIABLE)
    parser.add_argument("--data", type=Path, default=Path(given) if given else None, metavar="DIR")
    parser.add_argument(
        "--arms", type=_list, help="names, patterns or groups: " + ", ".join(GROUPS)
    )
    parser.add_argument("--sets", type=_list, help="names; default: all but " + ", ".join(APART))
    parser.set_defaults(size="full")
    for size, what in (
        ("sample", "all arms on a part of each set"),
        ("quick", "a few small parts, printed"),
    ):
        parser.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=what)
    parser.add_argument("--jobs", type=int, default=1, help="processes; more blur the cost")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR")
    parser.add_argument("--out", type=Path, help=f"default: {PAGE}; quick: printed")
    return parser


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _sets(known: Sequence[BenchmarkSet], names: list[str] | None) -> list[BenchmarkSet]:
    if names is None:
        return [one for one in known if one.name not in APART]
    by_name = {one.name: one for one in known}
    for name in names:
        if name not in by_name:
            raise UsageError(
                f"--sets {name}: no such set. There are: {', '.join(by_name)}. "
                f"Others need --data DIR."
            )
    return [by_name[name] for name in names]


def _refused(arm: Arm) -> str | None:
    """Why the settings refuse an arm, whatever the set."""
    try:
        arm.settings(["value"])
    except SettingsError as error:
        return str(error)
    return None


def _learns(task: Task) -> bool:
    return next(arm for arm in ARMS if arm.name == task.arm).detect is None


def _warm_up() -> float:
    """Import what training needs, so that no arm pays for it: seconds."""
    began = time.perf_counter()
    import keras  # noqa: F401, PLC0415 (seconds, and only where a network is trained)
    import tf2onnx  # noqa: F401, PLC0415

    return time.perf_counter() - began


def _watched(todo: list[Task], options: argparse.Namespace, console: Console) -> list[Outcome]:
    """Carry tasks out under a progress bar; a line each where nobody can see a bar."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    outcomes: list[Outcome] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("benchmark", total=len(todo))
        for outcome in runner.carry_out(todo, options.cache, options.jobs):
            task = outcome.task
            label = f"{task.of.name} {task.part} {task.arm}"
            progress.update(bar, advance=1, description=label)
            if not console.is_terminal:
                cost = outcome.cost
                told = f"{cost.wall:.1f} s{', refused' if cost.refused else ''}" if cost else "none"
                console.print(f"{len(outcomes) + 1}/{len(todo)} {label}: {told}", markup=False)
            outcomes.append(outcome)
    return outcomes


def _tables(of: BenchmarkSet, size: str, store: Store) -> list[report.Table]:
    """What is kept of a set at a size; of a sample only what tells more than the full set."""
    parts = of.parts(size)
    complete = _complete(of, parts, store)
    full = of.parts("full")
    if size == "sample" and (parts == full or complete == _complete(of, full, store)):
        return []
    rows = {arm.name: {**figures(arm, of, parts, store), "group": arm.group} for arm in complete}
    note = {"full": "", "sample": f": comparison on {len(parts)} parts", "quick": ""}[size]
    return [report.Table(of, note, rows)] if rows else []


def _complete(of: BenchmarkSet, parts: Sequence[str], store: Store) -> list[Arm]:
    """Arms of which every part is kept."""
    return [
        arm
        for arm in ARMS
        if (not arm.sets or of.name in arm.sets)
        and all(store.cost(store.key(arm, of, part)) is not None for part in parts)
    ]


def _agreement(sets: Sequence[BenchmarkSet], size: str, store: Store) -> list[str]:
    """How alike networks of several seeds rank user-months."""
    lines = []
    for of in sets:
        parts = of.parts(size)
        seeds = [arm for arm in _complete(of, parts, store) if arm.group in {"default", "seed"}]
        if len(seeds) > 1:
            mean, least = agreement(seeds, of, parts, store)
            lines.append(
                f"- {of.title}: rank correlation of user-months between {len(seeds)} seeds "
                f"{mean:.3f} on average, {least:.3f} at least."
            )
    return lines


def _circumstances(options: argparse.Namespace, start_up: float | None) -> tuple[str, ...]:
    words = ["python -m benchmarks.detection"]
    words += [] if options.data is None else ["--data DIR"]
    words += [] if options.size == "full" else [f"--{options.size}"]
    words += [f"--arms {shlex.quote(','.join(options.arms))}"] if options.arms else []
    words += [f"--sets {shlex.quote(','.join(options.sets))}"] if options.sets else []
    words += [f"--jobs {options.jobs}"] if options.jobs != 1 else []
    version = ", ".join(f"{what} {code_version(what)}" for what in MAKERS)
    lines = [
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}, last command: `{' '.join(words)}`",
        f"{os.cpu_count()} cores, {_processor()}, Python {sys.version.split()[0]}",
        f"anomaly {__version__}; hashes of the code: {version}",
        "seconds are of learning and scoring, all parts together; networks are trained by seed 0",
    ]
    if start_up is not None:
        lines.append(
            f"starting TensorFlow took {start_up:.1f} s, once in a process, and is not counted"
        )
    return tuple(lines)


def _processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text() if info.exists() else "").splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else "processor unknown"


if __name__ == "__main__":
    sys.exit(main())
