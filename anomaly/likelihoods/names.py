"""Which families a metric may have, by its kind; the first is the default.

Apart from the laws themselves, so that settings are read without loading any mathematics.
"""

from __future__ import annotations

from typing import Literal, get_args

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
Likelihood = Literal["auto", Count, Gauge, Share]

AUTO = "auto"
BY_KIND: dict[str, tuple[str, ...]] = {
    "count": get_args(Count),
    "gauge": get_args(Gauge),
    "share": get_args(Share),
}
WHOLE_ONLY = frozenset({"hurdle-negative-binomial", "zero-inflated-negative-binomial", "bernoulli"})
