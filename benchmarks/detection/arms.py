"""What is compared. A new arm is a new line.

An arm is the product with some settings changed (`override`, by section; the metric "*" stands for
every metric of the set), or a function of its own (`detect`). One configuration for all sets.
"""

# ruff: noqa: E501 (an arm is a line)

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from anomaly.exceptions import UsageError
from anomaly.settings import Settings, with_values
from benchmarks.detection import baselines
from benchmarks.detection.baselines import by_windows, detector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.detection.baselines import Detect

GROUPS = ("default", "baseline", "twin", "network", "threshold", "ablation", "seed")


@dataclass(frozen=True)
class Arm:
    """name and group (one of GROUPS); what it is, for a reader; sets: only these, empty: all."""

    name: str
    group: str
    what: str
    override: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    detect: Detect | None = None
    sets: tuple[str, ...] = ()

    def settings(self, metrics: Sequence[str] = ()) -> Settings | None:
        """The product's settings, None for its defaults.

        Raises: SettingsError if they refuse the override.
        """
        settings = Settings()
        for section, values in self.override.items():
            spread = dict(values)
            if section == "metric" and "*" in spread:
                spread = dict.fromkeys(metrics, spread["*"])
            settings = with_values(settings, f"arm {self.name}", section, **spread)
        return settings if self.override else None


HOURLY = ("worlds", "other_worlds", "behaviour_hourly")
SEEDED = ("worlds", "behaviour")
# fmt: off
ARMS: tuple[Arm, ...] = (
    Arm("default", "default", "the product as it comes"),

    Arm("robust_z", "baseline", "highest robust z of a step", detect=detector(baselines.robust_z)),
    Arm("isolation_forest", "baseline", "isolation forest of windows", detect=detector(by_windows(baselines.forest))),
    Arm("pca_windows", "baseline", "what the main components of windows cannot say", detect=detector(by_windows(baselines.components))),
    Arm("kmeans_windows", "baseline", "distance of windows to the nearest of 20 means", detect=detector(by_windows(baselines.means))),
    Arm("windowed_z", "baseline", "robust z through windows of 6, 24, 72 hours against the user's own", detect=detector(baselines.windowed_z), sets=HOURLY),

    Arm("twin", "twin", "the statistical twin alone, through the same stages", {"model": {"cell": "none"}}),

    Arm("rnn", "network", "simple recurrent network", {"model": {"cell": "rnn"}}),
    Arm("gru", "network", "GRU", {"model": {"cell": "gru"}}),
    Arm("lstm", "network", "LSTM", {"model": {"cell": "lstm"}}),
    Arm("feedforward", "network", "no memory", {"model": {"cell": "feedforward"}}),
    Arm("two_layers", "network", "two layers", {"model": {"layers": 2}}),
    Arm("forecast", "network", "forecasts only", {"model": {"objective": "forecast"}}),
    Arm("reconstruct", "network", "reconstructs only", {"model": {"objective": "reconstruct"}}),
    Arm("bidirectional", "network", "reconstructs, reading both ways", {"model": {"objective": "reconstruct", "bidirectional": True}}),
    Arm("many_to_one", "network", "many-to-one", {"model": {"mapping": "many-to-one"}}),
    Arm("one_to_many", "network", "one-to-many: a free run through the coming day", {"model": {"mapping": "one-to-many"}}),
    Arm("one_to_one", "network", "one-to-one: each step by itself", {"model": {"mapping": "one-to-one"}}),

    Arm("threshold_budget", "threshold", "a budget of false flags, whatever the number of users", {"threshold": {"kind": "budget"}}),
    Arm("threshold_fdr", "threshold", "false-discovery rate", {"threshold": {"kind": "fdr"}}),
    Arm("threshold_tail", "threshold", "extreme-value tail", {"threshold": {"kind": "tail"}}),
    Arm("threshold_dynamic", "threshold", "dynamic threshold with pruning", {"threshold": {"kind": "dynamic"}}),

    Arm("gaussian", "ablation", "every metric a gauge with a Gaussian: the usual squared error", {"metric": {"*": {"kind": "gauge", "likelihood": "gaussian"}}}),
    Arm("one_step", "ablation", "no windows: each step by itself", {"scan": {"windows": False}}),
    Arm("no_own_history", "ablation", "not set against the user's own history", {"scan": {"own_history": False}}),
    Arm("no_common_shock", "ablation", "what hits everyone is left in", {"scan": {"common_shock": False}}),
    Arm("only_highest", "ablation", "the highest of ways and lengths, not their mean", {"scan": {"combine": "highest"}}),
    Arm("only_loud", "ablation", "only how loud each step is", {"scan": {"combine": "loud"}}),
    Arm("only_steady", "ablation", "only what does not end", {"scan": {"combine": "steady"}}),

    *(Arm(f"seed_{n}", "seed", f"the product, trained with seed {n}", {"model": {"seed": n}}, sets=SEEDED) for n in range(1, 5)),
)
# fmt: on


def choose(patterns: Sequence[str]) -> list[Arm]:
    """Arms by name, group or pattern, in the table's order.

    Raises: UsageError naming the pattern that fits none.
    """
    for pattern in patterns:
        if not any(_fits(arm, pattern) for arm in ARMS):
            raise UsageError(
                f"--arms {pattern}: no arm or group is called so. Arms: "
                f"{', '.join(arm.name for arm in ARMS)}. Groups: {', '.join(GROUPS)}."
            )
    return [arm for arm in ARMS if any(_fits(arm, pattern) for pattern in patterns)]


def _fits(arm: Arm, pattern: str) -> bool:
    return fnmatch(arm.name, pattern) or arm.group == pattern
