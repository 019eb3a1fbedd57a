"""A trained network as ONNX, the same bytes whenever it was trained."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.networks.spec import NetworkSpec


def to_onnx(model: Any, spec: NetworkSpec) -> bytes:
    """The network as ONNX; an LSTM that reads becomes one fused operator there, other cells a loop."""
    example = [
        np.zeros((1, 2, spec.features), np.float32),
        np.zeros((1, 2, 2 * spec.metrics), np.float32),
        *[np.zeros((1, spec.units), np.float32)] * spec.state_arrays,
    ]
    model(example)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with warnings.catch_warnings():  # what keras does within is not for whoever trains to mend
            warnings.simplefilter("ignore", FutureWarning)
            model.export(path, format="onnx", verbose=False)
        return _renamed(path.read_bytes())


def _renamed(exported: bytes) -> bytes:
    """Inner names numbered in order: the exporter counts them up over a process's life, and the same
    network must give the same bytes whenever it was trained.
    """
    import onnx

    model = onnx.load_from_string(exported)
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}

    def name_of(old: str) -> str:
        return old if old in kept else names.setdefault(old, f"v{len(names)}")

    _rename(graph, name_of)
    for number, output in enumerate(graph.output):
        _rename_value(graph, output.name, f"said_{number}")
        output.name = f"said_{number}"
    graph.name, graph.doc_string = "forecaster", ""
    model.producer_version = model.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def _rename(graph: Any, name_of: Callable[[str], str]) -> None:
    """Rename tensors and nodes, those of loop bodies too."""
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{number}", ""
        node.input[:] = [name_of(name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, name_of)
                for value in (*attribute.g.input, *attribute.g.output):
                    value.name = name_of(value.name)
        node.output[:] = [name_of(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = name_of(tensor.name), ""
    ordered = sorted(graph.initializer, key=lambda tensor: int(tensor.name[1:]))
    del graph.value_info[:], graph.initializer[:]
    graph.initializer.extend(ordered)
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = name_of(dimension.dim_param)


def _rename_value(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
