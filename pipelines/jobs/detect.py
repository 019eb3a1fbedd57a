"""Detection on a file: read it, learn from its first part, score the rest. No database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from anomaly.exceptions import DataError, SourceError
from anomaly.records import FLAG_COLUMNS
from anomaly.settings import Settings, with_values
from anomaly.sources.batch import Tally
from anomaly.sources.cleaning import Checks
from anomaly.sources.files import read_file
from anomaly.store.artefacts import Artefacts

if TYPE_CHECKING:
    from anomaly.engine import Model
    from anomaly.progress import Progress

NUMBERS = (
    "score", "p_value", "observed", "expected", "lower", "upper", "self_percentile",
    "peer_percentile", "all_percentile",
)  # fmt: skip
FLAG_TYPES = dict.fromkeys(NUMBERS, pa.float64()) | {"peer_count": pa.int64()}
TIME = pa.timestamp("us", tz="UTC")
# Given rather than found, so that a result without rows has the same columns.
FLAGS = pa.schema(
    [
        (name, TIME if name in {"start", "end"} else FLAG_TYPES.get(name, pa.string()))
        for name in FLAG_COLUMNS
    ]
)
SCORES = pa.schema(
    [
        ("user_id", pa.string()),
        ("observed_at", TIME),
        ("score", pa.float32()),
        ("p_value", pa.float32()),
        ("top_metric", pa.string()),
    ]
)
MODEL = "model"  # the name under which --save-model keeps it within its folder


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. model: a folder to read one from; save_model: one to keep it in."""

    file: Path
    columns: Mapping[str, str]
    train_until: dt.datetime | None
    freq: str | None
    seed: int | None
    model: Path | None
    save_model: Path | None


@dataclass(frozen=True, slots=True)
class Found:
    """Flags and scores as tables (FLAG_COLUMNS, SCORE_COLUMNS), and what was read, and passed over."""

    flags: pa.Table
    scores: pa.Table
    rows: int
    rejected: Mapping[str, int]
    passed: Collection[str]


def detect_file(request: Request, settings: Settings, progress: Progress) -> Found:
    """Detect on a file.

    Raises: SourceError, DataError, ModelError, SettingsError; each names the file.
    """
    from anomaly import detector

    settings = asked(settings, request)
    model = None if request.model is None else read_model(request.model)
    table, tally = read(request, settings, progress)
    try:
        found = detector.detect(
            table.to_pandas(), request.train_until, settings, model=model, progress=progress
        )
    except DataError as error:
        raise type(error)(f"{request.file}: {error}") from error
    if request.save_model is not None:
        save_model(request.save_model, found.model)
    return Found(
        pa.Table.from_pandas(found.flags, FLAGS, preserve_index=False),
        pa.Table.from_pandas(found.scores, SCORES, preserve_index=False),
        tally.read,
        dict(tally.reasons),
        tally.passed,
    )


def asked(settings: Settings, request: Request) -> Settings:
    """The settings with what the command line said."""
    if request.freq is not None:
        settings = with_values(settings, "--freq", "grid", step=request.freq)
    if request.seed is not None:
        settings = with_values(settings, "--seed", "model", seed=request.seed)
    return settings


def read(request: Request, settings: Settings, progress: Progress) -> tuple[pa.Table, Tally]:
    """The file's clean rows, and the count of all of them.

    Raises: DataError if too many are bad or there are none.
    """
    tally = Tally()
    tables = []
    counts = frozenset(name for name, metric in settings.metric.items() if metric.kind == "count")
    checks = Checks(settings.source.timezone, counts=counts)
    batches = read_file(
        request.file, request.columns or None, metric=settings.source.metric, checks=checks
    )
    with progress.track(f"reading {request.file.name}", 0) as advance:
        for batch in batches:
            tally.add(batch)
            tables.append(batch.table)
            advance(batch.read)
    tally.refuse_beyond(settings.source.max_rejected, str(request.file))
    table = pa.concat_tables(tables) if tables else None
    if table is None or len(table) == 0:
        raise DataError(f"{request.file}: it holds no rows. Give a file with observations.")
    return table, tally


def read_model(folder: Path) -> Model:
    """A model kept by --save-model; its files are verified.

    Raises: SourceError if there is none; ModelError if it fails its checks.
    """
    from anomaly.engine import Model

    if not (folder / MODEL).is_dir():
        why = "it holds no model" if folder.is_dir() else "there is no such folder"
        raise SourceError(f"--model {folder}: {why}. Name the folder given to --save-model.")
    return Model.from_files(Artefacts(folder).read(MODEL))


def save_model(folder: Path, model: Model) -> None:
    """Keep a model in a folder.

    Raises: SourceError if it cannot be written.
    """
    Artefacts(folder).write(MODEL, model.to_files())
