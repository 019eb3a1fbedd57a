"""What recurrent networks remember, what clipping and truncation do, and what each kind costs.

    python benchmarks/networks.py                 tables, and the figures of docs/networks.md
    python benchmarks/networks.py --quick         a look in seconds; the figures say little
    python benchmarks/networks.py --figures DIR   figures elsewhere than docs/figures

Networks are built, cut, clipped and trained by the functions that `anomaly run` uses.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib as mpl
import numpy as np
import onnx
import tensorflow as tf

from anomaly import features
from anomaly.likelihoods.forecast import Families
from anomaly.networks import training
from anomaly.networks.export import to_onnx
from anomaly.networks.runtime import Network
from anomaly.networks.spec import Mapping, NetworkSpec

mpl.use("Agg")
from matplotlib import pyplot as plt  # the backend has to be chosen before

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

LOOPS = {"rnn", "gru"}
CELLS = ("feedforward", "rnn", "gru", "lstm")
SET = "lstm, set"  # an LSTM whose gates are set for long distances before it is taught
COLOURS = {
    "rnn": "#b3261e",
    "gru": "#8a6d00",
    "lstm": "#0b57d0",
    "feedforward": "#5f6368",
    SET: "#0b57d0",
}
STYLES = {"rnn": "-", "gru": "--", "lstm": "-", "feedforward": ":", SET: "-."}
NAMES = {
    "rnn": "simple RNN", "gru": "GRU", "lstm": "LSTM", "feedforward": "feed-forward", SET: "LSTM, gates set",
}  # fmt: skip
FAILED = 0.75  # right answers, under which longer distances are not tried
TASK = {"features": 3, "metrics": 1}
GAUGE = Families.usual(["gauge"])


@dataclass(frozen=True)
class Effort:
    """How long to look: distances, gradient steps at each at most, seeds, lengths, mappings scored."""

    distances: tuple[int, ...] = (10, 30, 100, 300, 1_000)
    steps: tuple[int, ...] = (160, 160, 140, 120, 60)
    seeds: tuple[int, ...] = (0, 1)
    reach: int = 1_000
    explosion: int = 150
    lengths: tuple[int, ...] = (100, 250, 500, 1_000)
    scored: int = 720
    mappings: tuple[Mapping, ...] = ("many-to-many", "one-to-many", "one-to-one")


QUICK = Effort((3,), (4,), (0,), 20, 12, (20,), 48, ("one-to-many",))


def spec_of(cell: str, units: int) -> NetworkSpec:
    """A network for the tasks below: a cue, a question mark, noise; one metric to speak of."""
    return NetworkSpec(cell, 1, units, TASK["features"], TASK["metrics"], 64)


def silent(users: int, steps: int) -> list[np.ndarray]:
    """A piece, as `TrainingData.piece` gives it, in which nothing is known."""
    flat = (users, steps, 1)
    inputs = np.zeros((users, steps, TASK["features"]), np.float32)
    zero, one = np.zeros(flat, np.float32), np.ones(flat, np.float32)
    current = np.zeros((users, steps, 2), np.float32)
    return [inputs, current, zero - 0.05, zero + 0.05, one, zero.copy(), 30 * one, zero, one]


def trials(users: int, distance: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A cue of +1 or -1, `distance` steps of noise as large, then the question; the answer is the cue."""
    rng = np.random.default_rng(seed)
    piece = silent(users, distance + 1)
    answer = rng.choice([-1.0, 1.0], size=users).astype(np.float32)
    inputs, _, low, high, _, mask = piece[:6]
    inputs[:, 0, 0] = answer
    inputs[:, -1, 1] = 1
    inputs[:, :, 2] = rng.normal(size=inputs.shape[:2])
    low[:, -1, 0], high[:, -1, 0] = answer - 0.05, answer + 0.05
    mask[:, -1] = 1
    return piece, answer


@dataclass
class Learner:
    """A network with the product's own gradient step."""

    model: Any
    step: Callable[..., Any]
    spec: NetworkSpec

    @classmethod
    def of(
        cls, cell: str, units: int, seed: int, rate: float = 5e-3, clip: float | None = 1.0,
        kind: Any = keras.optimizers.Adam,
    ) -> Learner:  # fmt: skip
        """Fresh weights by the seed."""
        keras.utils.set_random_seed(seed)
        spec = spec_of("lstm" if cell == SET else cell, units)
        model = training.build(spec)
        if cell == SET:
            set_gates(model, units, Effort.reach)
        step = training.gradient_step(
            tf, model, kind(rate, global_clipnorm=clip), spec, GAUGE, None
        )
        return cls(model, step, spec)

    def memory(self, users: int) -> list[np.ndarray]:
        """Of nothing."""
        return [np.zeros((users, self.spec.units), np.float32)] * self.spec.state_arrays

    def learn(self, piece: list[np.ndarray]) -> float:
        """One gradient step from empty memory; the norm of the gradient before clipping."""
        return float(self.step(piece, self.memory(len(piece[0])))[2])

    def answers(self, piece: list[np.ndarray]) -> np.ndarray:
        """(users,) the location said of the last step."""
        out = training.call(self.model, [piece[0], piece[1], *self.memory(len(piece[0]))])[0]
        return np.asarray(out).reshape(len(piece[0]), -1, 2, 1, features.OUTPUTS)[:, -1, 0, 0, 1]


def set_gates(model: Any, units: int, longest: int) -> None:
    """Forget gates that keep a memory for 1 to `longest` steps (Tallec & Ollivier 2018), and input
    gates nearly closed, so that noise does not pile up in it.
    """
    forget = np.log(np.random.default_rng(0).uniform(1, longest, units))
    for weight in model.weights:
        if weight.path.endswith("lstm_cell/bias"):
            bias = weight.numpy()
            bias[:units], bias[units : 2 * units] = -2, forget
            weight.assign(bias)


def remembered(cell: str, effort: Effort) -> np.ndarray:
    """(seeds, distances) accuracy, each of a network taught afresh; NaN beyond where all fail."""
    found = np.full((len(effort.seeds), len(effort.distances)), np.nan)
    for place, (distance, steps) in enumerate(zip(effort.distances, effort.steps, strict=True)):
        found[:, place] = [taught(cell, distance, steps, seed) for seed in effort.seeds]
        if found[:, place].max() < FAILED:
            break
    return found


def taught(cell: str, distance: int, steps: int, seed: int) -> float:
    """Accuracy on fresh trials after at most so many gradient steps."""
    learner = Learner.of(cell, 16, seed, rate=1e-2)
    fresh, answer = trials(500, distance, seed=10_000 + seed)
    for number in range(steps):
        learner.learn(trials(32, distance, seed=1_000 * seed + number)[0])
        if number % 20 == 19 and accuracy(learner, fresh, answer) > 0.995:
            break
    return accuracy(learner, fresh, answer)


def accuracy(learner: Learner, piece: list[np.ndarray], answer: np.ndarray) -> float:
    """Share of trials whose sign is right; one half is guessing."""
    return float(np.mean(np.sign(learner.answers(piece)) == answer))


def reach(cell: str, seeds: Sequence[int], steps: int) -> np.ndarray:
    """(steps,) norm of the gradient of the last word to the input so many steps back, as a share of
    that to the last input, of fresh weights; the geometric mean over seeds.
    """
    norms = []
    for seed in seeds:
        learner = Learner.of(cell, 32, seed)
        rng = np.random.default_rng(seed)
        for weight in learner.model.weights:
            if weight.path.endswith("corrections/kernel"):
                weight.assign(rng.normal(0, 0.2, weight.shape))
        piece, _ = trials(8, steps - 1, seed)
        given, current, *memory = map(tf.constant, [piece[0], piece[1], *learner.memory(8)])
        with tf.GradientTape() as tape:
            tape.watch(given)
            out = training.call(learner.model, [given, current, *memory])[0]
            last = tf.reduce_sum(out[:, -1])
        gradient = np.asarray(tape.gradient(last, given), np.float64)
        norm = np.sqrt(np.square(gradient).sum(-1)).mean(0)[::-1]
        norms.append(np.log10(np.maximum(norm / max(norm[0], 1e-30), 1e-30)))
    return np.asarray(10 ** np.mean(norms, axis=0))


def explosion(clip: float | None, steps: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Norms of the gradient before clipping, and accuracy, of a simple network.

    By plain gradient descent: Adam divides by the gradient's usual size, so that a leap of it shows
    less, and costs more steps to forget.
    """
    learner = Learner.of("rnn", 32, seed, rate=0.2, clip=clip, kind=keras.optimizers.SGD)
    fresh, answer = trials(500, 10, seed=99)
    norms, right = [], []
    for number in range(steps):
        norms.append(learner.learn(trials(32, 10, seed=number)[0]))
        right.append(accuracy(learner, fresh, answer))
    return norms, right


def cost(length: int, truncate: int) -> tuple[float, float]:
    """(MiB, seconds): what a pass forth and back over a sequence adds to memory at most, and takes."""
    learner = Learner.of("lstm", 48, 0)
    piece = trials(64, length - 1, 0)[0]
    parts = [
        [a[:, first : first + truncate] for a in piece] for first in range(0, length, truncate)
    ]

    def whole() -> None:
        memory: Any = learner.memory(64)
        for part in parts:
            _, memory, _ = learner.step(part, memory)

    whole()
    with Peak() as peak:
        seconds = min(timed(whole) for _ in range(3))
    return peak.mebibytes, seconds


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Peak:
    """How far resident memory rises above where it was, sampled every two milliseconds (Linux)."""

    def __enter__(self) -> Self:
        ctypes.CDLL(None).malloc_trim(0)
        self._before = self._highest = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.mebibytes = (self._highest - self._before) / 2**20

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self._highest = max(self._highest, _resident())


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def speed(cell: str, mapping: Mapping, steps: int) -> tuple[float, int]:
    """User-months of 720 hours scored in a second on one core, day by day, 48 units, 5 metrics; and
    how many fused operators the exported network has.
    """
    spec = NetworkSpec(cell, 1, 48, features.input_size(5), 5, 128, "forecast", mapping)
    exported = to_onnx(training.build(spec), spec)
    network = Network(spec, exported)
    fused = sum(
        node.op_type in {"LSTM", "GRU", "RNN"}
        for node in onnx.load_from_string(exported).graph.node
    )
    rng = np.random.default_rng(0)
    day = min(24, steps)
    given = rng.normal(size=(128, day, spec.features)).astype(np.float32)
    current = rng.normal(size=(128, day, 10)).astype(np.float32)
    memory = network.empty_memory(128)
    network.read(given, current, memory)
    began = time.perf_counter()
    for _ in range(steps // day):
        _, memory = network.read(given, current, memory)
    return 128 * steps / 720 / (time.perf_counter() - began), fused


def table(title: str, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title."""
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    print(f"\n{title}")
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def saved(figure: Any, folder: Path, name: str) -> None:
    """Write a figure; the same numbers give the same bytes."""
    figure.savefig(folder / f"{name}.png", dpi=180, metadata={"Software": None})
    plt.close(figure)


def panels(count: int) -> tuple[Any, list[Axes]]:
    """A narrow figure of panels one below the other, which a telephone can show."""
    plt.rcParams.update({
        "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    })  # fmt: skip
    figure, axes = plt.subplots(count, 1, figsize=(5.2, 3.1 * count), layout="constrained")
    return figure, list(np.atleast_1d(axes))


def show_memory(effort: Effort, folder: Path) -> None:
    """Forgetting: gradient against distance, and a task whose answer lies further and further back."""
    figure, (above, below) = panels(2)
    ways = {cell: reach(cell, effort.seeds, effort.reach) for cell in ("rnn", "gru", "lstm", SET)}
    places = [d for d in (1, *effort.distances) if d < effort.reach] + [effort.reach - 1]
    rows = [[NAMES[cell], *(f"{way[d]:.0e}" for d in places)] for cell, way in ways.items()]
    table(
        "Gradient of the last word to the input so many steps back (untaught)", ["", *places], rows
    )
    for cell, way in ways.items():
        above.loglog(
            np.arange(1, len(way) + 1), way, STYLES[cell], color=COLOURS[cell], label=NAMES[cell]
        )
    above.set(
        ylim=(1e-12, 100),
        xlabel="steps back",
        ylabel="share of the gradient",
        title="What still reaches so far back",
    )
    above.legend(loc="lower left")
    right: dict[str, Any] = {}
    for cell in (*CELLS, SET):
        began = time.perf_counter()
        right[cell] = remembered(cell, effort)
        print(f"  {NAMES[cell]}: taught for {time.perf_counter() - began:.0f} s")
        below.plot(
            effort.distances,
            right[cell].mean(0),
            STYLES[cell],
            marker="o",
            color=COLOURS[cell],
            label=NAMES[cell],
        )
        below.fill_between(
            effort.distances,
            right[cell].min(0),
            right[cell].max(0),
            color=COLOURS[cell],
            alpha=0.12,
            lw=0,
        )
    below.axhline(0.5, color="#9aa0a6", lw=0.8)
    below.text(effort.distances[0], 0.51, "guessing", color="#5f6368", va="bottom")
    below.set(
        xscale="log", ylim=(0.4, 1.03), xlabel="steps between cue and question", ylabel="right answers",
        title="A task whose answer lies far back",
    )  # fmt: skip
    below.set_xticks(effort.distances, [f"{d:,}" for d in effort.distances])
    below.minorticks_off()
    below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=9)
    rows = [
        [
            NAMES[cell],
            *(
                "-" if np.isnan(d).any() else f"{d.mean():.2f} ({d.min():.2f}-{d.max():.2f})"
                for d in found.T
            ),
        ]
        for cell, found in right.items()
    ]
    title = f"Right answers, mean of {len(effort.seeds)} seeds (lowest to highest)"
    table(title, ["", *effort.distances], rows)
    saved(figure, folder, "networks-memory")


def show_clipping(effort: Effort, folder: Path) -> None:
    """A run that explodes without clipping and not with it."""
    figure, (above, below) = panels(2)
    rows = []
    for clip, name, colour in (
        (None, "without clipping", COLOURS["rnn"]),
        (1.0, "clip_norm = 1", COLOURS["lstm"]),
    ):
        norms, right = explosion(clip, effort.explosion)
        above.semilogy(norms, color=colour, label=name, lw=1)
        below.plot(right, color=colour, label=name, lw=1.5)
        rows.append(
            [name, f"{np.median(norms):.1f}", f"{max(norms):.0f}", f"{np.mean(right[-10:]):.2f}"]
        )
    above.axhline(1, color="#9aa0a6", lw=0.8)
    above.set(ylabel="norm of the gradient", title="The gradient before it is clipped")
    below.set(
        ylim=(-0.03, 1.03),
        xlabel="gradient steps",
        ylabel="right answers",
        title="What is learnt meanwhile",
    )
    below.legend(loc="center right", bbox_to_anchor=(1.0, 0.76))
    table(
        "Norm of the gradient and right answers at the end",
        ["", "median", "highest", "right"],
        rows,
    )
    saved(figure, folder, "networks-clipping")


def show_truncation(effort: Effort, folder: Path) -> None:
    """Memory and time against length."""
    figure, (above, below) = panels(2)
    rows = []
    piece = effort.lengths[0]
    for truncated in (False, True):
        costs = [cost(length, piece if truncated else length) for length in effort.lengths]
        name = f"truncate_steps = {piece}" if truncated else "whole sequence"
        colour = COLOURS["lstm" if truncated else "rnn"]
        above.plot(effort.lengths, [c[0] for c in costs], marker="o", color=colour, label=name)
        below.plot(effort.lengths, [c[1] for c in costs], marker="o", color=colour, label=name)
        rows += [
            [name, length, f"{c[0]:.0f}", f"{c[1]:.2f}"]
            for length, c in zip(effort.lengths, costs, strict=True)
        ]
    above.set(ylabel="MiB", title="Memory of a gradient step", ylim=(0, None))
    below.set(ylabel="seconds", xlabel="steps in the sequence", title="Time", ylim=(0, None))
    above.legend(loc="upper left")
    table("LSTM-48, 64 sequences, forth and back", ["", "steps", "MiB", "seconds"], rows)
    saved(figure, folder, "networks-truncation")


def show_speed(effort: Effort) -> None:
    """How fast each kind scores."""
    rows = []
    for mapping in effort.mappings:
        for cell in CELLS:
            rate, fused = speed(cell, mapping, effort.scored)
            rows.append(
                [
                    mapping,
                    NAMES[cell],
                    f"{rate:,.0f}",
                    "fused" if fused else "loop" if cell in LOOPS else "-",
                ]
            )
    table(
        "User-months (720 h, 5 metrics, 48 units) scored a second, one core",
        ["", "", "a second", "operator"],
        rows,
    )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument(
        "--figures", type=Path, default=Path(__file__).parents[1] / "docs" / "figures"
    )
    chosen = parser.parse_args()
    effort = QUICK if chosen.quick else Effort()
    chosen.figures.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    for show in (show_memory, show_clipping, show_truncation):
        show(effort, chosen.figures)
        print(f"  [{time.perf_counter() - began:.0f} s]")
    show_speed(effort)
    print(f"\n{time.perf_counter() - began:.0f} s in all; figures in {chosen.figures}")


if __name__ == "__main__":
    main()
