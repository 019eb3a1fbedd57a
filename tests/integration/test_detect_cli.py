"""anomaly detect on files, with a network that is trained for a moment only."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from anomaly.records import FLAG_COLUMNS, SCORE_COLUMNS

QUICK = {"ANOMALY_MODEL__STEPS": "12", "ANOMALY_MODEL__UNITS": "8", "NO_COLOR": "1"}


def anomaly(*arguments, folder, code=0):
    command = [sys.executable, "-m", "pipelines", *map(str, arguments)]
    environment = {**os.environ, **QUICK}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def made(users=6):
    rng = np.random.default_rng(3)
    hours = pd.date_range("2026-01-01", "2026-03-01", freq="h", inclusive="left", tz="UTC")
    busy = np.where((hours.hour >= 8) & (hours.hour < 18) & (hours.day_of_week < 5), 6.0, 0.5)
    frames = []
    for user in range(users):
        for metric in ("logons", "files"):
            value = rng.poisson(busy * (1 + user / 4)).astype(float)
            if (user, metric) == (3, "files"):
                value[(hours >= "2026-02-12 01:00") & (hours < "2026-02-12 05:00")] += 500
            frames.append(
                pd.DataFrame(
                    {"user_id": f"u{user}", "metric": metric, "observed_at": hours, "value": value}
                )
            )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("detect")
    made().to_csv(path / "obs.csv", index=False)
    return path


@pytest.fixture(scope="module")
def found(folder):
    """One detection, with everything written."""
    outs = ("--flags-out", "f.csv", "--scores-out", "s.parquet", "--save-model", "kept")
    return anomaly("detect", "obs.csv", *outs, "--seed", 1, folder=folder)


@pytest.fixture
def flags(found, folder):
    return pd.read_csv(folder / "f.csv")


def test_the_planted_burst_is_flagged_and_told_of(found, flags):
    assert tuple(flags.columns) == FLAG_COLUMNS
    top = flags.iloc[0]
    assert (top.user_id, top.direction) == ("u3", "up")
    assert "files" in top.metrics
    assert top.start < "2026-02-12T05:00:00Z"
    assert top.end > "2026-02-12T01:00:00Z"
    assert top.explanation[:40] in " ".join(found.stdout.split())
    assert f"obs.csv: {len(made())} rows read; {len(flags)} flags" in found.stdout


def test_the_last_calendar_month_is_scored(found, folder):
    scores = pd.read_parquet(folder / "s.parquet")
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert len(scores) == 6 * 28 * 24
    assert scores.observed_at.min() == pd.Timestamp("2026-02-01", tz="UTC")


def test_a_kept_model_scores_the_same_without_learning(found, flags, folder):
    anomaly("detect", "obs.csv", "--model", "kept", "--flags-out", "again.json", folder=folder)
    again = json.loads((folder / "again.json").read_text())
    assert [record["start"] for record in again] == flags.start.tolist()
    assert [record["score"] for record in again] == flags.score.tolist()


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere", "there is no such folder"), (".", "it holds no model")]
)
def test_a_folder_without_a_model_is_refused(folder, tmp_path, name, why):
    done = anomaly("detect", folder / "obs.csv", "--model", name, folder=tmp_path, code=3)
    assert f"error: --model {name}: {why}. Name the folder" in done.stderr


def test_a_kept_model_that_was_changed_is_refused(found, folder, tmp_path):
    (tmp_path / "kept" / "model").mkdir(parents=True)
    for file in (folder / "kept" / "model").iterdir():
        content = file.read_bytes()
        changed = content + b" " if file.name == "model.json" else content
        (tmp_path / "kept" / "model" / file.name).write_bytes(changed)
    done = anomaly(
        "detect", folder / "obs.csv", "--model", tmp_path / "kept", folder=folder, code=4
    )
    assert "model.json: the model's file differs from its sha256" in done.stderr


def test_a_plain_series_and_a_folder_of_parquet_are_taken(found, folder):
    rows = made(users=2)
    one = rows[(rows.user_id == "u1") & (rows.metric == "files")]
    plain = one.rename(columns={"observed_at": "timestamp"})[["timestamp", "value"]]
    plain.to_csv(folder / "plain.csv", index=False)
    outs = ("--scores-out", "p.csv", "--train-until", "2026-02-20")
    anomaly("detect", "plain.csv", *outs, folder=folder)
    scores = pd.read_csv(folder / "p.csv")
    assert set(scores.user_id) == {"plain"}
    assert len(scores) == 9 * 24
    (folder / "parts").mkdir(exist_ok=True)
    for number, (_, part) in enumerate(rows.groupby("user_id")):
        renamed = part.rename(columns={"user_id": "who", "value": "n"})
        renamed.to_parquet(folder / "parts" / f"{number}.parquet")
    columns = ("--columns", "user_id=who,value=n", "--freq", "6h", "--scores-out", "d.csv")
    anomaly("detect", "parts", *columns, folder=folder)
    assert len(pd.read_csv(folder / "d.csv")) == 2 * 28 * 4


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("a,b\n1,2\n", 4, "in.csv"),
        ("", 4, "in.csv"),
        ("user_id,metric,observed_at,value\n", 4, "in.csv: it holds no rows"),
        ("user_id,metric,observed_at,value\nu,m,yesterday,much\n", 4, "1 of 1 rows are bad"),
        ("timestamp,value\n2026-01-01T00:00:00Z,3\n", 4, "in.csv: detect: no rows before"),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path, content, code, message):
    (tmp_path / "in.csv").write_text(content)
    done = anomaly("detect", "in.csv", "--flags-out", "f.csv", folder=tmp_path, code=code)
    assert message in done.stderr
    assert not (tmp_path / "f.csv").exists()


def test_bad_rows_are_counted_beside_the_flags(found, folder, tmp_path):
    rows = made()
    text = rows.to_csv(index=False) + "u1,files,yesterday,3\nu1,files,2026-01-03,inf\n"
    (tmp_path / "in.csv").write_text(text)
    done = anomaly("detect", "in.csv", "--model", folder / "kept", folder=tmp_path)
    assert "set aside unreadable_time: 1, not_finite: 1" in done.stdout
