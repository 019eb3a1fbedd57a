"""Measure what a month costs, beside what the machine can do in the same run.

    python -m benchmarks.scale --quick                        all of it, small, in a minute or two
    python -m benchmarks.scale network                        the network beside numpy's matrix product
    python -m benchmarks.scale month --users 1000,10000       read to published flags, beside pyarrow alone
    python -m benchmarks.scale month --users 1000 --url URL   the same from rows in a database
    python -m benchmarks.scale shares --users 10000           where the time goes, by py-spy
    python -m benchmarks.scale precision --users 1000         float16 and int8: time, and change in flags
    python -m benchmarks.scale training                       time and quality by the number of users learnt from
    python -m benchmarks.scale peers [--python PYTHON]        other detectors on the same user-months
    python -m benchmarks.scale startup                        how long the command line takes to begin

Seconds are processor time, user and system, of all processes: they do not depend on who else uses the
machine as time on the clock does. Made files go to --folder and are deleted afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sqlalchemy.engine import make_url

from benchmarks.scale import made, world
from benchmarks.scale import shares as measured_shares
from benchmarks.scale.measure import MIB, Cost, run, table
from benchmarks.scale.peers import average_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.store import FlagFilter
    from pipelines.services import Services

QUICK_STEPS, STEPS = 20, 400
APART = "from pathlib import Path; from benchmarks.scale.__main__ import {0}; {0}(Path({1!r}){2})"
MERELY = (
    "import time, sys, pyarrow.parquet as pq; began = time.process_time(); "
    "[pq.ParquetFile(file).read(use_threads=False) for file in sys.argv[1:]]; print(time.process_time() - began)"
)
BY_ADBC = (
    "import time, sys, adbc_driver_{0}.dbapi as adbc; cursor = adbc.connect(sys.argv[1]).cursor(); "
    "began = time.process_time(); cursor.execute('SELECT user_id, metric, observed_at, value FROM observations "
    "WHERE observed_at >= ' + sys.argv[2]); cursor.fetch_arrow_table(); print(time.process_time() - began)"
)
BARE = "import typer, sqlalchemy"


def services_of(folder: Path) -> Services:
    """The services that the world's settings name."""
    from anomaly.progress import SILENT  # noqa: PLC0415
    from anomaly.settings import load  # noqa: PLC0415
    from pipelines.services import open_services  # noqa: PLC0415

    return open_services(load(folder / "anomaly.toml"), SILENT)


def learn(folder: Path) -> None:
    """Train, and learn users, in a process of its own: its memory is not the month's."""
    services = services_of(folder)
    world.learn(services)
    services.store.close()


def grow(folder: Path, users: int) -> None:
    """Give so many users a state; apart for the same reason."""
    services = services_of(folder)
    world.give_states(services, users)
    services.store.close()


def prepared(folder: Path, *, url: str | None, steps: int, workers: int) -> world.World:
    """A world with a model and the states of those who are known."""
    learnt = world.lay(folder / "learnt", url=url, steps=steps, workers=workers)
    run([*learnt.command, "db", "upgrade"], learnt.folder)
    if url is not None:
        run([*learnt.command, "import", str(learnt.folder / "rows")], learnt.folder)
    run([sys.executable, "-c", APART.format("learn", str(learnt.folder), "")], learnt.folder)
    return learnt


def peopled(learnt: world.World, folder: Path, users: int) -> world.World:
    """A copy of it with so many users, who all have states."""
    laid = world.grown(learnt, folder, users)
    run([sys.executable, "-c", APART.format("grow", str(laid.folder), f", {users}")], laid.folder)
    return laid


def scoring(laid: world.World) -> list[str]:
    """The command that scores the world's month."""
    return [*laid.command, "run", "--month", str(world.MONTH), "--no-train"]


def month(
    sizes: Sequence[int], folder: Path, *, url: str | None, steps: int, workers: int, python: str
) -> None:
    """Whole months, from rows to published flags, without training: one model and its states for all."""
    learnt = prepared(folder, url=url, steps=steps, workers=workers)
    lines = []
    for users in sizes:
        laid = peopled(learnt, folder / str(users), users)
        bytes_before = database_bytes(laid)
        if url is not None:
            rows = laid.folder / "rows" / f"month={world.MONTH}"
            run([*laid.command, "import", str(rows)], laid.folder)
        merely = stock(laid, url, python)
        cost = run(scoring(laid), laid.folder)
        lines.append(line_of(laid, cost, merely, bytes_before))
        print(*lines[-1], sep="; ", file=sys.stderr, flush=True)
        shutil.rmtree(laid.folder)
    columns = [
        "users", "s of CPU", "ms a user-month", "stock reader alone, ms", "ratio", "peak MiB, all processes",
        "database bytes a user-month", "flags", "attacked users found", "average precision",
    ]  # fmt: skip
    where = "Parquet read in place" if url is None else url.split(":", maxsplit=1)[0]
    table(
        f"A month of 744 hours and {len(made.METRICS)} metrics, rows to published flags ({where})",
        columns,
        lines,
    )


def shares(users: int, folder: Path, *, steps: int, workers: int) -> None:
    """Where the time of a month goes, by py-spy."""
    laid = peopled(prepared(folder, url=None, steps=steps, workers=workers), folder / "laid", users)
    found = measured_shares.shared_out(measured_shares.recorded(laid, scoring(laid)))
    lines = [[part, f"{share:.2f}"] for part, share in found.items()]
    table(f"Where the time of a month of {users:,} users goes", ["part", "share"], lines)


def stock(laid: world.World, url: str | None, python: str) -> float:
    """Processor seconds in which a stock reader makes Arrow of the month's rows: pyarrow for Parquet, ADBC
    for databases.
    """
    if url is None:
        command = [sys.executable, "-c", MERELY, *map(str, laid.files)]
    else:
        address = make_url(url)
        kind = address.get_backend_name()
        where = address.database if kind == "sqlite" else url
        begin = world.MONTH.start("UTC").strftime("'%Y-%m-%d %H:%M:%S'")
        command = [python, "-c", BY_ADBC.format(kind), str(where), begin]
    found = [run(command, laid.folder) for _ in range(3)]
    return min(float(cost.said.split()[-1]) for cost in found)


def line_of(laid: world.World, cost: Cost, merely: float, before: int) -> list[object]:
    """What one month came to."""
    services = services_of(laid.folder)
    flags, people = services.store.flags, services.store.flags.user_months(str(world.MONTH))
    flagged = [row.flag for row in flags.select(_filter())]
    services.store.close()
    spans = {user: (start, end) for user, start, end in laid.attacked}
    hit = {
        flag.user_id
        for flag in flagged
        if flag.user_id in spans
        and flag.start < spans[flag.user_id][1]
        and flag.end > spans[flag.user_id][0]
    }
    scores = np.array([row.user_month.score for row in people])
    truth = np.array([row.user_month.user_id in spans for row in people])
    return [
        f"{laid.users:,}", f"{cost.cpu:.1f}", f"{1e3 * cost.cpu / laid.users:.2f}", f"{1e3 * merely / laid.users:.3f}",
        f"{cost.cpu / merely:.1f}", f"{cost.memory / MIB:,.0f}",
        f"{(database_bytes(laid) - before) / laid.users:,.0f}", len(flagged), f"{len(hit)} of {len(spans)}",
        f"{average_precision(scores, truth):.2f}" if truth.any() else "-",
    ]  # fmt: skip


def _filter() -> FlagFilter:
    from anomaly.store import FlagFilter  # noqa: PLC0415

    return FlagFilter(month=str(world.MONTH))


def database_bytes(laid: world.World) -> int:
    """The size of the world's SQLite file; 0 of a server's."""
    return sum(file.stat().st_size for file in laid.folder.glob("anomaly.db*"))


def network(*, quick: bool) -> None:
    """The network's rate."""
    from benchmarks.scale import network as measured  # noqa: PLC0415 (TensorFlow comes along)

    batches = (128,) if quick else (32, 128, 512)
    columns = ["", "users in a batch", "GFLOP/s a core", "share of peak", "ms a user-month"]
    table("Network scoring, ONNX Runtime, one thread", columns, measured.rows(batches, 512))


def precision(users: int, steps: int) -> None:
    """The trained network in float32, float16 and int8: what each saves, and what becomes of flags."""
    from benchmarks.scale import precision as measured  # noqa: PLC0415 (ONNX's tools come along)

    columns = [
        "", "ms a user-month in the network", "of float32", "KiB", "flags", "stayed", "went", "came",
        "a score moved by at most", "by who else is scored", "average precision",
    ]  # fmt: skip
    table(f"{users:,} users, the same network in fewer bits", columns, measured.rows(users, steps))


def training(sizes: Sequence[int], steps: int) -> None:
    """Time to train, and how likely a fresh month of other users is under what was learnt."""
    from anomaly import engine  # noqa: PLC0415
    from anomaly.calendar import CalendarContext  # noqa: PLC0415
    from anomaly.reading import log_likelihood, read_with  # noqa: PLC0415
    from anomaly.settings import ModelSettings, Settings  # noqa: PLC0415

    context, settings = CalendarContext(), Settings(model=ModelSettings(steps=steps))
    history = world.panel_of(0, max(sizes), world.HISTORY)
    fresh = world.panel_of(max(sizes), 200, (*world.HISTORY, world.MONTH))
    split = int(np.searchsorted(fresh.grid.times, world.MONTH.start("UTC").timestamp()))
    lines = []
    for users in sizes:
        part = history.take(np.arange(users))
        began = time.process_time()
        model = engine.fit(part, world.SPECS, context, settings, 0)
        seconds = time.process_time() - began
        states = engine.States.empty(model, fresh.users)
        said = read_with(model, fresh, states, context)[0].forecast(np.s_[:, split:])
        nats = log_likelihood(said, fresh.between(split, len(fresh.grid)), model.links)
        lines.append([users, f"{seconds:.0f}", model.summary.steps, f"{nats:.4f}"])
    columns = [
        "users learnt from",
        "s of CPU",
        "gradient steps",
        "nats a value, fresh month of others",
    ]
    table("Training by the size of the sample", columns, lines)


def peers(users: int, folder: Path, python: str) -> None:
    """Other detectors on the months of the first users."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[np.ndarray]] = {"history": [], "month": [], "odd": []}
    for number in range(-(-users // made.BLOCK_USERS)):
        past = [made.block(number, m, world.SEED, incidents=False).values for m in world.HISTORY]
        now = made.block(number, world.MONTH, world.SEED, incidents=True)
        parts["history"].append(np.concatenate(past, axis=1))
        parts["month"].append(now.values)
        parts["odd"].append(now.odd)
    file = folder / "rows.npz"
    whole = {name: np.concatenate(each)[:users] for name, each in parts.items()}
    np.savez(file, allow_pickle=False, **whole)
    script = str(Path(__file__).with_name("peers.py"))
    said = run([python, script, str(file)], folder).said
    found = [line.split(";") for line in said.splitlines() if line.count(";") == 2]
    lines = [[name, f"{1e3 * float(seconds):.2f}", precision] for name, seconds, precision in found]
    table(
        f"Peers, fit and score, {users} users", ["", "ms a user-month", "average precision"], lines
    )


def startup(folder: Path, times: int = 3) -> None:
    """How long the command line takes to begin."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder}/anomaly.db"
    (folder / "anomaly.toml").write_text(f'[database]\nurl = "{url}"\n')
    product = [sys.executable, "-m", "pipelines", "--config", str(folder / "anomaly.toml")]
    run([*product, "db", "upgrade"], folder)
    commands = {
        "python -c 'import typer, sqlalchemy'": [sys.executable, "-c", BARE],
        "anomaly --help": [*product, "--help"],
        "anomaly flags list": [*product, "flags", "list"],
    }
    seconds = {
        name: min(run(each, folder).cpu for _ in range(times)) for name, each in commands.items()
    }
    bare = next(iter(seconds.values()))
    lines = [[name, f"{found:.2f}", f"{found / bare:.1f}"] for name, found in seconds.items()]
    table("Start-up", ["", "s of CPU", "times the bare import"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=("network", "precision", "month", "shares", "training", "peers", "startup"),
    )
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    parser.add_argument("--users", default="1000", help="sizes, such as 1000,10000")
    parser.add_argument(
        "--url", help="import rows into this database instead of reading Parquet in place"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="of gradient, where it trains")
    parser.add_argument("--workers", type=int, default=1, help="shards scored at the same time")
    parser.add_argument(
        "--python", default=sys.executable, help="a Python that has other detectors"
    )
    parser.add_argument("--folder", type=Path, help="where made files go for the while")
    given = parser.parse_args(arguments)
    sizes = [made.BLOCK_USERS] if given.quick else [int(size) for size in given.users.split(",")]
    if given.url is not None and len(sizes) > 1:
        parser.error("--url: a database takes one size. Run again with an empty one for the next.")
    steps = QUICK_STEPS if given.quick else given.steps
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="anomaly-scale-") as place:
        folder = Path(place)
        wanted = (given.what,) if given.what else ("startup", "network", "month", "peers")
        if "startup" in wanted:
            startup(folder / "startup")
        if "network" in wanted:
            network(quick=given.quick)
        if "precision" in wanted:
            precision(min(sizes), steps)
        if "month" in wanted:
            month(
                sizes,
                folder,
                url=given.url,
                steps=steps,
                workers=given.workers,
                python=given.python,
            )
        if "shares" in wanted:
            shares(min(sizes), folder, steps=steps, workers=given.workers)
        if "training" in wanted:
            training((20, 40) if given.quick else (50, 100, 200, 400), steps)
        if "peers" in wanted:
            peers(100 if given.quick else min(sizes), folder / "peers", given.python)


if __name__ == "__main__":
    main()
