"""Each arm on each part of each set, once."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from anomaly import detect
from anomaly.exceptions import AnomalyError, SettingsError
from benchmarks.detection.arms import ARMS
from benchmarks.detection.store import Cost, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from benchmarks.detection.arms import Arm
    from benchmarks.detection.sets import BenchmarkSet, Part

FLAG = ["user_id", "start", "end", "score"]
SCORE = ["user_id", "observed_at", "score"]


@dataclass(frozen=True, slots=True)
class Task:
    """An arm, by its name, on a part of a set; key: where its result goes."""

    arm: str
    of: BenchmarkSet
    part: str
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended. skipped: the settings refuse the arm; failed: an error nobody foresaw."""

    task: Task
    cost: Cost | None = None
    skipped: str | None = None
    failed: str | None = None


def tasks(
    arms: Sequence[Arm], sets: Sequence[BenchmarkSet], size: str, store: Store
) -> tuple[list[Task], int]:
    """What is still to be done, part by part so that a part is loaded once; and what is done."""
    wanted = [
        Task(arm.name, one, part, store.key(arm, one, part))
        for one in sets
        for part in one.parts(size)
        for arm in arms
        if not arm.sets or one.name in arm.sets
    ]
    open_ = [task for task in wanted if store.cost(task.key) is None]
    return open_, len(wanted) - len(open_)


def carry_out(todo: Iterable[Task], root: Path, jobs: int) -> Iterator[Outcome]:
    """Do all tasks, in this process or in several; outcomes as they come."""
    if jobs == 1:
        for task in todo:
            yield work(task, root)
        return
    context = multiprocessing.get_context("spawn")  # TensorFlow does not bear a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(work, task, root) for task in todo]):
            yield done.result()


def work(task: Task, root: Path) -> Outcome:
    """Let an arm judge a part, and keep what it said."""
    arm = next(arm for arm in ARMS if arm.name == task.arm)
    part = _load(task.of, task.part)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        flags, scores = judged(arm, part)
    except SettingsError as error:
        return Outcome(task, skipped=str(error))
    except AnomalyError as error:  # a refusal is a result
        cost = Cost(time.perf_counter() - wall, time.process_time() - cpu, str(error))
        Store(root).write(task.key, None, None, cost)
        return Outcome(task, cost)
    except Exception as error:  # noqa: BLE001 (told and tried again next time; the others go on)
        return Outcome(task, failed=f"{type(error).__name__}: {error}")
    cost = Cost(time.perf_counter() - wall, time.process_time() - cpu)
    Store(root).write(task.key, flags, scores, cost)
    return Outcome(task, cost)


def judged(arm: Arm, part: Part) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Flags and scores of the part that is scored."""
    if arm.detect is not None:
        flags, scores = arm.detect(part.frame, part.train_until)
    else:
        settings = arm.settings(sorted(part.frame["metric"].unique()))
        found = detect(part.frame, part.train_until.to_pydatetime(), settings)
        flags, scores = found.flags, found.scores
    later = scores["observed_at"] >= part.train_until
    return flags[FLAG], scores.loc[later, SCORE].astype({"score": "float32"})


@lru_cache(maxsize=1)
def _load(of: BenchmarkSet, part: str) -> Part:
    return of.load(part)
