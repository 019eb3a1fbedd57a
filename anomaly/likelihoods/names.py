"""Which families a metric may have, by its kind; the first is the default.

Apart from the laws themselves, so that settings are read without loading any mathematics.
"""

from __future__ import annotations

from typing import Literal, get_args

from anomaly import plugins

Count = Literal[
    "hurdle-loglogistic",
    "hurdle-lognormal",
    "hurdle-student",
    "hurdle-negative-binomial",
    "zero-inflated-negative-binomial",
    "bernoulli",
]
Gauge = Literal["logistic", "gaussian", "student"]
Share = Literal["logit-logistic", "logit-normal", "beta"]
AUTO = "auto"
BY_KIND: dict[str, tuple[str, ...]] = {
    "count": get_args(Count),
    "gauge": get_args(Gauge),
    "share": get_args(Share),
}
BUILT_IN = (AUTO, *(name for families in BY_KIND.values() for name in families))
WHOLE_ONLY = frozenset({"hurdle-negative-binomial", "zero-inflated-negative-binomial", "bernoulli"})


def families_of(kind: str) -> tuple[str, ...]:
    """The families that a metric of this kind may have; those that others add come last."""
    return (*BY_KIND[kind], *plugins.names("likelihoods"))
