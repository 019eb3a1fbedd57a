"""On what arms are compared: labelled sets in a folder, and made worlds.

A set is scored in parts: one series each, all users of a company together, or a made world each. An
arm sees a part's rows and where scoring begins, nothing else. Sizes: `full`; `sample`, for comparing
many arms; `quick`, to see that it works.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import pandas as pd

from anomaly.months import Month
from anomaly.panel import evenly
from anomaly.simulation import make_world
from benchmarks.detection.strangers import BUSY, CLEAN, make_strangers
from benchmarks.detection.strangers.plan import END, SCORED
from benchmarks.detection.versions import SIMULATION, STRANGERS, code_version

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly.simulation import World

SIZES = ("full", "sample", "quick")
COLUMNS = ["user_id", "metric", "observed_at", "value"]
START = "2026-01"
VARIANTS = {"clean": CLEAN, "busy": BUSY}


@dataclass(frozen=True)
class Part:
    """frame: user_id, metric, observed_at (UTC), value; scoring begins at train_until."""

    name: str
    frame: pd.DataFrame
    train_until: pd.Timestamp


@dataclass(frozen=True)
class Labelled:
    """A set in a folder, with TABLE.parquet, label files and meta.csv, judged by evaluate.py beside it.

    together: all users are one part, else each series is one. labels: label files, the first one
    decides. counts: parts (users where together) at each size, None: all.
    """

    name: str
    title: str
    data: Path
    folder: str
    table: str = "series"
    labels: tuple[str, ...] = ("labels",)
    together: bool = False
    counts: tuple[int | None, ...] = (None, 8, 2)

    @property
    def path(self) -> Path:
        """The set's folder."""
        return self.data / self.folder

    def parts(self, size: str) -> list[str]:
        """The table's series, evenly spread over their names where not all are taken."""
        count = self.counts[SIZES.index(size)]
        if self.together:
            return [f"{count or len(self._meta())} users"]
        names = sorted(self._meta()["user_id"])
        return names if count is None else [names[at] for at in evenly(len(names), count)]

    def version(self, part: str) -> str:
        """The table's and the training ends' hash; a part is named besides."""
        del part
        return _sha256(self.path / f"{self.table}.parquet") + _sha256(self.path / "meta.csv")

    def load(self, part: str) -> Part:
        """The rows of one series, or of all users."""
        meta, rows = self._meta(), _table(self.path / f"{self.table}.parquet")
        users = [part]
        if self.together:
            names = sorted(meta["user_id"])
            users = [names[at] for at in evenly(len(names), int(part.split(maxsplit=1)[0]))]
        until = pd.to_datetime(meta[meta["user_id"].isin(users)]["train_until"], utc=True)
        frame = rows[rows["user_id"].isin(users)]
        frame = frame.assign(
            user_id=frame["user_id"].astype(str), metric=frame["metric"].astype(str)
        )
        return Part(part, frame[COLUMNS].reset_index(drop=True), until.min())

    def _meta(self) -> pd.DataFrame:
        return pd.read_csv(self.path / "meta.csv", dtype={"user_id": str})


@dataclass(frozen=True)
class MadeWorlds(ABC):
    """Made companies by the hour, of whom it is known what was planted.

    users, seeds: at each size.
    """

    name: str
    title: str
    users: tuple[int, ...]
    seeds: tuple[int, ...]

    @abstractmethod
    def parts(self, size: str) -> list[str]:
        """Their names."""

    def load(self, part: str) -> Part:
        """Make the world."""
        return Part(part, self.world(part).observations.to_pandas(), self.span[0])

    @abstractmethod
    def version(self, part: str) -> str:
        """The hash of what makes it."""

    @property
    @abstractmethod
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """The scored month."""

    @abstractmethod
    def world(self, part: str) -> World:
        """The world with what was planted in it."""


@dataclass(frozen=True)
class Worlds(MadeWorlds):
    """Made by the product's own simulator, one a seed; the last of `months` is scored."""

    name: str = "worlds"
    title: str = "Simulated worlds, hourly"
    users: tuple[int, ...] = (400, 400, 40)
    seeds: tuple[int, ...] = (5, 2, 1)
    months: int = 4

    def parts(self, size: str) -> list[str]:
        """One for each seed, from 1 on."""
        at = SIZES.index(size)
        return [f"{self.users[at]} users, seed {seed}" for seed in range(1, self.seeds[at] + 1)]

    def version(self, part: str) -> str:
        """The hash of what makes it."""
        return f"{part}, {self.months} months, {code_version(SIMULATION)}"

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """The scored month."""
        last = Month.parse(START).plus(self.months - 1)
        return pd.Timestamp(last.start("UTC")), pd.Timestamp(last.end("UTC"))

    def world(self, part: str) -> World:
        """The world with what was planted in it."""
        words = part.split()
        return _world(int(words[0]), self.months, int(words[-1]))


@dataclass(frozen=True)
class OtherWorlds(MadeWorlds):
    """Made by a simulator that knows nothing of the product's, each variant by each seed; May is scored."""

    name: str = "other_worlds"
    title: str = "Worlds of another maker, hourly"
    users: tuple[int, ...] = (450, 450, 40)
    seeds: tuple[int, ...] = (2, 1, 1)

    def parts(self, size: str) -> list[str]:
        """One for each variant and seed, from 1 on."""
        at = SIZES.index(size)
        seeds = range(1, self.seeds[at] + 1)
        return [f"{self.users[at]} users, {of}, seed {seed}" for of in VARIANTS for seed in seeds]

    def version(self, part: str) -> str:
        """The hash of what makes it."""
        return f"{part}, {code_version(STRANGERS)}"

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """The scored month."""
        return pd.Timestamp(SCORED, tz="UTC"), pd.Timestamp(END, tz="UTC")

    def world(self, part: str) -> World:
        """The world with what was planted in it."""
        return _other_world(part)


BenchmarkSet = Labelled | MadeWorlds


def known_sets(data: Path | None) -> list[BenchmarkSet]:
    """All sets that can be had: made worlds, and labelled ones where a folder is given."""
    if data is None:
        return [Worlds(), OtherWorlds()]
    users = (None, None, 60)
    found: list[BenchmarkSet] = [
        Labelled("behaviour", "User behaviour, daily", data, "cert_r42", "daily",
                 ("labels_observable", "labels"), together=True, counts=users),
        Worlds(),
        OtherWorlds(),
        Labelled("behaviour_hourly", "User behaviour, hourly", data, "cert_r42", "hourly",
                 ("labels_hourly",), together=True, counts=users),
        Labelled("smap_msl", "SMAP and MSL", data, "smap_msl", counts=(None, 12, 2)),
        Labelled("nab", "NAB", data, "nab", counts=(None, 10, 2)),
        Labelled("smd8", "Server machines, 1 minute", data, "smd8", counts=(None, 1, 1)),
        Labelled("asd", "Application servers, 5 minutes", data, "asd", counts=(None, 3, 1)),
        Labelled("ucr", "UCR archive", data, "ucr", counts=(None, 12, 2)),
    ]  # fmt: skip
    return [one for one in found if not isinstance(one, Labelled) or one.path.is_dir()]


@lru_cache(maxsize=1)
def _table(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file)


@lru_cache(maxsize=1)
def _world(users: int, months: int, seed: int) -> World:
    return make_world(users=users, months=months, start=START, seed=seed)


@lru_cache(maxsize=1)
def _other_world(part: str) -> World:
    words = part.replace(",", "").split()
    return make_strangers(VARIANTS[words[2]], int(words[0]), int(words[-1]))


@cache
def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]
