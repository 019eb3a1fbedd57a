"""What the image's entry points do as its user, with its variables, a read-only root, and no more than its volumes."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.fixtures.confining import Container, container_of
from tests.fixtures.installing import install

SMALL = """
[grid]
step = "6h"
[model]
objective = "forecast"
units = 4
steps = 4
batch = 8
truncate_steps = 24
"""
# Tries to write in the first folder of every mount, and prints where it could.
PROBE = """
import os
for line in open("/proc/mounts"):
    probe = os.path.join(line.split()[1], ".probe")
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
    except OSError:
        continue
    os.unlink(probe)
    print(os.path.dirname(probe))
"""


@pytest.fixture(scope="module")
def compose(repository) -> dict:
    """The service of deploy/compose that serves."""
    services = yaml.safe_load((repository / "deploy" / "compose" / "compose.yaml").read_text())
    return services["services"]["anomaly"]


@pytest.fixture(scope="module")
def container(repository, compose, tmp_path_factory) -> Container:
    folder = tmp_path_factory.mktemp("container")
    installed = install(folder / "image", repository)
    installed.python(
        "-m", "compileall", "-q", installed.interpreter.parents[1] / "lib"
    )  # as pip does
    memory = int(re.fullmatch(r"(\d+)g", compose["mem_limit"])[1]) << 30
    file = repository / "deploy" / "container" / "Containerfile"
    return container_of(file, installed, folder, memory)


def observations() -> pd.DataFrame:
    """Eight people through three months, and one who reads a great deal for two days of the last."""
    rng = np.random.default_rng(17)
    times = pd.date_range("2026-01-01", "2026-04-01", freq="6h", inclusive="left", tz="UTC")
    busy = np.isin(times.hour, (6, 12)) & (times.day_of_week < 5)
    parts = []
    for user in range(8):
        values = rng.poisson(np.where(busy, 20, 1))
        loud = (times >= "2026-03-10") & (times < "2026-03-12") & (user == 4)
        parts.append(
            pd.DataFrame(
                {"user_id": f"u{user}", "metric": "files_read", "observed_at": times, "value": values + 300 * loud}
            )
        )  # fmt: skip
    return pd.concat(parts)


def done(ran) -> str:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_it_can_write_to_its_volumes_alone_and_is_nobody_in_particular(container):
    written = done(container.program("python", "-c", PROBE)).split()
    assert set(written) == {*container.image.volumes, "/dev/shm"}
    status = done(container.program("cat", "/proc/1/status"))
    assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


@pytest.mark.timeout(600)
def test_a_month_is_scored_there_served_and_left_in_order_on_sigterm(container, compose, tmp_path):
    (container.volume / "anomaly.toml").write_text(SMALL)
    observations().to_csv(container.volume / "months.csv", index=False)
    done(container.run("db", "upgrade"))
    done(container.run("import", "months.csv"))
    assert "2026-03 complete" in done(container.run("run", "--month", "2026-03"))
    done(container.run("token", "create", "siem", "--role", "reader"))
    with closing(sqlite3.connect(container.volume / "anomaly.db")) as database:
        flagged = {user for (user,) in database.execute("select user_id from flags_current")}
        (maker,) = database.execute("select author from tokens").fetchone()
    assert "u4" in flagged
    assert maker == "account:uid 10001", "the machine has no such account"
    left = {path.name for path in container.volume.rglob("*")}
    assert not left & {"Microsoft", "deviceid"}, "ONNX Runtime would report its use"
    with container.started(tmp_path / "serve.log") as started:
        started.wait_until_healthy(90)
        grace = float(compose["stop_grace_period"].removesuffix("s"))
        assert started.stop(grace) == 0, started.log.read_text()
    assert '"level": "error"' not in started.log.read_text()
