"""Models' files: whole, verified, replaced only by themselves."""

import json

import pytest

from anomaly.exceptions import ModelError, SourceError
from anomaly.store.artefacts import MANIFEST, Artefacts

FILES = {"model.json": b"{}", "network.onnx": b"\0\1"}


@pytest.fixture
def artefacts(tmp_path):
    return Artefacts(tmp_path / "models")


def test_what_was_written_is_read(artefacts):
    stored = artefacts.write("v1", FILES)
    assert artefacts.read(stored.address, stored.sha256) == FILES
    assert artefacts.read("v1") == FILES


def test_the_same_again_changes_nothing(artefacts):
    stored = artefacts.write("v1", FILES)
    before = (artefacts.folder / "v1" / MANIFEST).stat().st_mtime_ns
    assert artefacts.write("v1", FILES) == stored
    assert (artefacts.folder / "v1" / MANIFEST).stat().st_mtime_ns == before
    assert [path.name for path in artefacts.folder.iterdir()] == ["v1"]


@pytest.mark.parametrize("name", ["model.json", "network.onnx", MANIFEST])
def test_a_changed_file_is_refused(artefacts, name):
    stored = artefacts.write("v1", FILES)
    path = artefacts.folder / "v1" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelError, match=f"v1/{name}: the model's file"):
        artefacts.read(stored.address, stored.sha256)


@pytest.mark.parametrize("name", ["model.json", MANIFEST])
def test_a_missing_file_is_refused(artefacts, name):
    stored = artefacts.write("v1", FILES)
    (artefacts.folder / "v1" / name).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        artefacts.read(stored.address, stored.sha256)


def test_a_manifest_that_is_none_is_refused(artefacts):
    artefacts.write("v1", FILES)
    (artefacts.folder / "v1" / MANIFEST).write_text("half a man")
    with pytest.raises(ModelError, match="is no manifest"):
        artefacts.read("v1")


def test_a_damaged_model_is_written_anew(artefacts):
    stored = artefacts.write("v1", FILES)
    (artefacts.folder / "v1" / "model.json").write_bytes(b"x")
    assert artefacts.write("v1", FILES) == stored
    assert artefacts.read(stored.address, stored.sha256) == FILES


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "models").write_text("a file is in the way")
    with pytest.raises(SourceError, match=r"models/v1: the model cannot be written .*artefacts"):
        Artefacts(tmp_path / "models").write("v1", FILES)


def test_a_removed_model_is_gone(artefacts):
    artefacts.write("v1", FILES)
    artefacts.remove("v1")
    artefacts.remove("v1")
    with pytest.raises(ModelError):
        artefacts.read("v1")


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "..", "sub/file", ""])
def test_a_manifest_that_leads_elsewhere_is_refused(artefacts, name):
    artefacts.write("v1", FILES)
    (artefacts.folder / "v1" / MANIFEST).write_text(json.dumps({name: "0" * 64}))
    with pytest.raises(ModelError, match="names files outside its folder"):
        artefacts.read("v1")


@pytest.mark.parametrize("content", ["[1]", "3", "null"])
def test_a_manifest_of_another_kind_is_refused(artefacts, content):
    artefacts.write("v1", FILES)
    (artefacts.folder / "v1" / MANIFEST).write_text(content)
    with pytest.raises(ModelError, match="outside its folder"):
        artefacts.read("v1")


@pytest.mark.parametrize("address", ["../v1", "/tmp", "..", "v1/../../x"])
def test_a_model_is_never_looked_for_elsewhere(artefacts, address):
    artefacts.write("v1", FILES)
    with pytest.raises(ModelError, match="outside the folder of models"):
        artefacts.read(address)


def test_a_file_swapped_with_another_models_is_refused(artefacts):
    stored = artefacts.write("v1", FILES)
    artefacts.write("v2", {**FILES, "network.onnx": b"another network"})
    swapped = (artefacts.folder / "v2" / "network.onnx").read_bytes()
    (artefacts.folder / "v1" / "network.onnx").write_bytes(swapped)
    with pytest.raises(ModelError, match="network.onnx: the model's file differs"):
        artefacts.read(stored.address, stored.sha256)


def test_a_whole_folder_swapped_with_another_models_is_refused(artefacts):
    stored = artefacts.write("v1", FILES)
    artefacts.write("v2", {**FILES, "network.onnx": b"another network"})
    (artefacts.folder / "v1").rename(artefacts.folder / "gone")
    (artefacts.folder / "v2").rename(artefacts.folder / "v1")
    with pytest.raises(ModelError, match="is not the one that was registered"):
        artefacts.read(stored.address, stored.sha256)
