"""The picture of the architecture is that of the imports."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="module")
def drawn(repository):
    place = repository / "docs" / "hooks" / "architecture.py"
    spec = importlib.util.spec_from_file_location("docs_architecture", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_that_of_the_code(drawn):
    """Where it differs: python docs/hooks/architecture.py"""
    assert drawn.FIGURE.read_text(encoding="utf-8") == drawn.drawing(drawn.edges())


def test_arrows_go_down_and_never_sideways(drawn):
    for here, there in drawn.edges():
        assert (here == "pipelines") or (here in drawn.ADAPTERS and there == "core"), (here, there)


def test_an_import_within_a_function_counts(drawn, tmp_path):
    file = tmp_path / "late.py"
    file.write_text("def f():\n    from anomaly.web import app\n")
    assert {drawn.part_of(name) for name in drawn.imported(file)} == {"web"}
