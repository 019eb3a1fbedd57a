"""What an arm said of a part, kept in files named by all that could change it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.detection.versions import BASELINES, ENGINE, code_version

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.detection.arms import Arm
    from benchmarks.detection.sets import BenchmarkSet


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of learning and scoring; refused: why the product would not judge the part."""

    wall: float
    cpu: float
    refused: str | None = None


def key_of(arm: Arm, version: str, part: str) -> str:
    """Name a result: a hash of the arm's settings or function, its code, the data and the part."""
    code = code_version(BASELINES if arm.detect else ENGINE)
    how = arm.name if arm.detect else arm.override
    text = json.dumps([how, code, version, part], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class Store:
    """A folder of results; what is there is complete, since each file is moved into place."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, arm: Arm, of: BenchmarkSet, part: str) -> str:
        """Where a result is or would be, under the root."""
        return f"{of.name}/{arm.name}/{key_of(arm, of.version(part), part)}"

    def cost(self, key: str) -> Cost | None:
        """What a result cost; None where there is no such result."""
        kept = self.figures(key)
        return None if kept is None else Cost(**kept)

    def write(
        self, key: str, flags: pd.DataFrame | None, scores: pd.DataFrame | None, cost: Cost
    ) -> None:
        """Keep a result; without frames where the part was refused."""
        if scores is not None:
            self._frame(key, "scores", scores)
        if flags is not None:
            self._frame(key, "flags", flags)
        self.keep(key, asdict(cost))  # last: it says that the others are there

    def read(self, key: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Flags and scores."""
        return (
            pd.read_parquet(self._path(key, "flags.parquet")),
            pd.read_parquet(self._path(key, "scores.parquet")),
        )

    def figures(self, key: str) -> dict[str, Any] | None:
        """Numbers kept under a key; None where there are none."""
        path = self._path(key, "json")
        found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def keep(self, key: str, figures: dict[str, Any]) -> None:
        """Keep numbers under a key."""
        path = self._path(key, "json")
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(figures))
        half.replace(path)

    def _frame(self, key: str, name: str, frame: pd.DataFrame) -> None:
        path = self._path(key, f"{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(f".{os.getpid()}")
        frame.to_parquet(half, compression="zstd", index=False)
        half.replace(path)

    def _path(self, key: str, ending: str) -> Path:
        return self.root / f"{key}.{ending}"
