"""The chosen families are part of the model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anomaly.exceptions import ModelError
from anomaly.likelihoods.forecast import Families
from anomaly.model import JSON_FILE, Model

pytestmark = pytest.mark.slow  # it trains networks


def test_a_model_carries_its_families_and_what_they_were_chosen_by(small_model):
    families = Families(("hurdle-student", "hurdle-negative-binomial"), (0.819, 1.0))
    model = replace(small_model, prior=replace(small_model.prior, families=families))
    again = Model.from_files(model.to_files())
    assert again.prior.families == families
    assert again.likelihoods == {
        "files_read": "hurdle-student",
        "logons": "hurdle-negative-binomial",
    }
    assert again.summary.held_out == small_model.summary.held_out
    assert set(again.summary.held_out) == set(model.metrics)
    assert again.version == model.version != small_model.version


def test_a_model_written_before_it_had_families_is_refused(small_model):
    files = small_model.to_files()
    head = json.loads(files[JSON_FILE]) | {"format": 1}
    with pytest.raises(ModelError, match="format 1, this version reads .*Train again"):
        Model.from_files({**files, JSON_FILE: json.dumps(head).encode()})
