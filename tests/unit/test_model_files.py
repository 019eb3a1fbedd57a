"""A model's files: whole, finite and of this version, or refused by name; nothing in them is run."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from anomaly.exceptions import ModelError
from anomaly.model import ARRAYS_FILE, FORMAT, JSON_FILE, ONNX_FILE, Model

pytestmark = pytest.mark.slow  # it trains a network


@pytest.fixture(scope="module")
def files(small_model):
    return small_model.to_files()


def with_head(files, **values):
    head = json.loads(files[JSON_FILE])
    return {**files, JSON_FILE: json.dumps({**head, **values}).encode()}


def test_files_are_read_back(small_model, files):
    assert Model.from_files(files).version == small_model.version


@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_a_model_of_another_version_is_refused_with_both(files, version):
    said = f"of format {version}, this version reads {FORMAT}. Train again"
    with pytest.raises(ModelError, match=said):
        Model.from_files(with_head(files, format=version))


@pytest.mark.parametrize("name", [JSON_FILE, ARRAYS_FILE])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(files, name, share):
    cut = files[name][: int(share * len(files[name]))]
    with pytest.raises(ModelError):
        Model.from_files({**files, name: cut})


def test_a_truncated_network_is_refused(files):
    cut = files[ONNX_FILE][: len(files[ONNX_FILE]) // 2]
    with pytest.raises(ModelError):
        _ = Model.from_files({**files, ONNX_FILE: cut}).network


@pytest.mark.parametrize("name", [JSON_FILE, ARRAYS_FILE, ONNX_FILE])
def test_a_missing_file_is_refused(files, name):
    with pytest.raises(ModelError, match="cannot be read"):
        Model.from_files({other: content for other, content in files.items() if other != name})


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_model_trained_to_no_number_is_refused(files, number):
    with np.load(io.BytesIO(files[ARRAYS_FILE])) as found:
        arrays = dict(found)
    arrays["spread"] = np.full_like(arrays["spread"], number)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(ModelError, match="spread is not finite"):
        Model.from_files({**files, ARRAYS_FILE: buffer.getvalue()})


def test_a_pickle_among_the_arrays_is_not_run(files, tmp_path):
    touched = tmp_path / "touched"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (touched,)

    buffer = io.BytesIO()
    np.savez(buffer, ticks=np.array([Bomb()], dtype=object))
    for content in (buffer.getvalue(), pickle.dumps(Bomb())):
        with pytest.raises(ModelError):
            Model.from_files({**files, ARRAYS_FILE: content})
    assert not touched.exists()
