"""Which families a metric may have, by its kind; the first is the default.

Apart from the laws themselves, so that settings are read without loading any mathematics.
"""

from __future__ import annotations

from typing import Literal

Likelihood = Literal[
    "auto",
    "hurdle-loglogistic",
    "hurdle-lognormal",
    "hurdle-student",
    "hurdle-negative-binomial",
    "zero-inflated-negative-binomial",
    "bernoulli",
    "logistic",
    "gaussian",
    "student",
    "logit-logistic",
    "logit-normal",
    "beta",
]

AUTO = "auto"
BY_KIND: dict[str, tuple[str, ...]] = {
    "count": (
        "hurdle-loglogistic",
        "hurdle-lognormal",
        "hurdle-student",
        "hurdle-negative-binomial",
        "zero-inflated-negative-binomial",
        "bernoulli",
    ),
    "gauge": ("logistic", "gaussian", "student"),
    "share": ("logit-logistic", "logit-normal", "beta"),
}
WHOLE_ONLY = frozenset({"hurdle-negative-binomial", "zero-inflated-negative-binomial", "bernoulli"})
