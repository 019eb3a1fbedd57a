"""Scores and flags against labels: figures. No point adjustment anywhere."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anomaly.simulation import judge, ranking
from benchmarks.detection.sets import Labelled, MadeWorlds
from benchmarks.detection.versions import JUDGE, code_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

    from benchmarks.detection.arms import Arm
    from benchmarks.detection.sets import BenchmarkSet
    from benchmarks.detection.store import Store

Frames = tuple[pd.DataFrame, pd.DataFrame]  # flags, scores


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure's key and heading; headline: shown atop; better: whether more is better."""

    key: str
    heading: str
    headline: bool = False
    better: bool = True


def atop(measure: Measure) -> Measure:
    """The same figure, shown atop."""
    return replace(measure, headline=True)


VUS, F1 = Measure("vus_pr", "VUS-PR"), Measure("event_f1", "event F1")
EVENTS = (Measure("event_precision", "event precision"), Measure("event_recall", "event recall"))
FALSE_USERS = Measure(
    "false_flags_per_1000_user_months", "false flags per 1,000 user-months", better=False
)
FALSE_SERIES = Measure("false_alarms_per_series_month", "false alarms a series-month", better=False)
USERS = (
    Measure("auc_roc", "ROC", headline=True),
    Measure("recall_at_5fpr_points", "recall at 5 %", headline=True),
    Measure("user_month_ap", "AP user-month", headline=True),
    Measure("user_ap", "AP user", headline=True),
    Measure("budget_recall", "insiders found with 1 % of users a day", headline=True),
    *(Measure(f"budget_recall_scenario_{n}", f"of scenario {n}") for n in (1, 2, 3)),
    *EVENTS,
    atop(FALSE_USERS),
)
WORLDS = (
    Measure("ap_user_days", "AP user-day", headline=True),
    Measure("ap_users", "AP user", headline=True),
    Measure("found", "share of incidents flagged"),
    Measure("true_flags_per_1000_user_months", "true flags per 1,000 user-months"),
    atop(FALSE_USERS),
)
MEASURES: dict[str, tuple[Measure, ...]] = {
    "behaviour": (
        *USERS,
        Measure("labels.auc_roc", "ROC, all labels"),
        Measure("labels.user_month_ap", "AP user-month, all labels"),
    ),
    "behaviour_hourly": USERS,
    "worlds": WORLDS,
    "other_worlds": WORLDS,
    "nab": (atop(VUS), atop(F1), *EVENTS, atop(FALSE_SERIES), Measure("auc_pr", "AP points")),
    "smap_msl": (atop(F1), *EVENTS, FALSE_SERIES, VUS),
    "smd8": (atop(VUS), F1, *EVENTS, FALSE_SERIES),
    "asd": (atop(VUS), F1, *EVENTS, FALSE_SERIES),
    "ucr": (Measure("top1", "top-1", headline=True), VUS, F1, *EVENTS, FALSE_SERIES),
}


def figures(arm: Arm, of: BenchmarkSet, parts: Sequence[str], store: Store) -> dict[str, Any]:
    """An arm's figures on these parts of a set, all of which are in the store; kept there too.

    A part that was refused counts with scores of 0 and no flags; `refused` says how many, and why.
    """
    keys = [store.key(arm, of, part) for part in parts]
    scorer = _sha(of.data / "evaluate.py") if isinstance(of, Labelled) else ""
    text = "\n".join([*keys, code_version(JUDGE), scorer])
    kept = f"{of.name}/figures/{arm.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    found = store.figures(kept)
    if found is None:
        frames = [_frames(of, part, key, store) for part, key in zip(parts, keys, strict=True)]
        found = on_worlds(of, parts, frames) if isinstance(of, MadeWorlds) else {}
        if isinstance(of, Labelled):
            found = on_labels(of, frames)
        store.keep(kept, found)
    costs = [cost for key in keys if (cost := store.cost(key)) is not None]
    return {
        **found,
        "parts": len(parts),
        "cpu": sum(cost.cpu for cost in costs),
        "wall": sum(cost.wall for cost in costs),
        "refused": [cost.refused for cost in costs if cost.refused],
    }


def on_labels(of: Labelled, frames: Sequence[Frames]) -> dict[str, float]:
    """By the folder's own evaluate.py, all series in one list; other labels' figures by prefix."""
    scorer = load_scorer(of.data / "evaluate.py")
    flags = pd.concat([flags for flags, _ in frames], ignore_index=True)
    scores = pd.concat([scores for _, scores in frames], ignore_index=True)
    meta = scorer.read(of.path / "meta.csv")
    out: dict[str, float] = {}
    for number, labels in enumerate(of.labels):
        data = scorer.Data(scores, scorer.read(of.path / f"{labels}.parquet"), flags, meta)
        found = scorer.evaluate(data, cert=of.together)
        found["false_flags_per_1000_user_months"] = 1_000 * found["false_alarms_per_series_month"]
        prefix = f"{labels}." if number else ""
        out |= {
            f"{prefix}{key}": float(value)
            for key, value in found.items()
            if isinstance(value, int | float)
        }
    return out


def on_worlds(of: MadeWorlds, parts: Sequence[str], frames: Sequence[Frames]) -> dict[str, float]:
    """Mean over worlds, and `_sd`, the deviation between them."""
    table = pd.DataFrame([
        on_world(of, part, *both) for part, both in zip(parts, frames, strict=True)
    ])  # fmt: skip
    deviation = {f"{key}_sd": float(table[key].std()) for key in table if len(table) > 1}
    return {str(key): float(table[key].mean()) for key in table} | deviation


def on_world(
    of: MadeWorlds, part: str, flags: pd.DataFrame, scores: pd.DataFrame
) -> dict[str, float]:
    """One world: ranking of all users who were there, and flags against what was planted."""
    world = of.world(part)
    start, end = of.span
    users = world.users
    there = users[(users["active_from"] < end) & ~(users["active_to"] <= start)]["user_id"]
    ranked = ranking(world.incidents, scores, start, end, set(there))
    held = judge(world.incidents, flags, start, end, users=len(there))
    assert held.false_flags_per_1000_user_months is not None
    return {
        "ap_user_days": ranked.ap_user_days,
        "ap_users": ranked.ap_users,
        "found": held.found / held.planted if held.planted else float("nan"),
        "true_flags_per_1000_user_months": 1_000 * (held.flags - held.false_flags) / len(there),
        "false_flags_per_1000_user_months": held.false_flags_per_1000_user_months,
        "user_months": ranked.users,
        "attacked_users": ranked.attacked_users,
    }


def agreement(
    arms: Sequence[Arm], of: BenchmarkSet, parts: Sequence[str], store: Store
) -> tuple[float, float]:
    """Rank correlation of user-months (by highest score) between arms: mean and lowest pair."""
    columns = []
    for arm in arms:
        frames = [store.read(store.key(arm, of, part))[1].assign(part=part) for part in parts]
        scores = pd.concat(frames, ignore_index=True)
        month = scores["observed_at"].dt.strftime("%Y-%m")
        columns.append(scores.groupby(["part", "user_id", month])["score"].max())
    pairs = [a.corr(b, method="spearman") for a, b in combinations(columns, 2)]
    return float(np.mean(pairs)), float(np.min(pairs))


def _frames(of: BenchmarkSet, part: str, key: str, store: Store) -> Frames:
    cost = store.cost(key)
    if cost is None or cost.refused is None:
        return store.read(key)
    loaded = of.load(part)
    later = loaded.frame[loaded.frame["observed_at"] >= loaded.train_until]
    scores = later[["user_id", "observed_at"]].drop_duplicates().assign(score=np.float32(0))
    return pd.DataFrame(columns=["user_id", "start", "end", "score"]), scores


def load_scorer(file: Path) -> ModuleType:
    """The labelled folder's scorer, as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_scorer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
