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

    _in_order(graph)
    _rename(graph, name_of)
    for number, output in enumerate(graph.output):
        _rename_value(graph, output.name, f"said_{number}")
        output.name = f"said_{number}"
    graph.name, graph.doc_string = "forecaster", ""
    model.producer_version = model.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def _in_order(graph: Any) -> None:
    """Nodes as the outputs need them: the exporter's own order follows the names that it counted up."""
    maker = {name: place for place, node in enumerate(graph.node) for name in node.output}
    nodes, places = list(graph.node), list[int]()
    seen: set[int] = set()

    def visit(name: str) -> None:
        place = maker.get(name)
        if place is None or place in seen:
            return
        seen.add(place)
        for needed in _needs(nodes[place]):
            visit(needed)
        places.append(place)

    for output in graph.output:
        visit(output.name)
    ordered = [type(nodes[place]).FromString(nodes[place].SerializeToString()) for place in places]
    del graph.node[:]
    graph.node.extend(ordered)
    for node in graph.node:
        for body in _bodies(node):
            _in_order(body)


def _bodies(node: Any) -> list[Any]:
    """The graphs within a node: the body of a loop."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _needs(node: Any) -> list[str]:
    """What a node reads, the bodies of its loops included."""
    bodies = _bodies(node)
    within = [name for body in bodies for inner in body.node for name in _needs(inner)]
    given = [value.name for body in bodies for value in body.output]
    return [*node.input, *within, *given]


def _rename(graph: Any, name_of: Callable[[str], str]) -> None:
    """Rename tensors and nodes, those of loop bodies too."""
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{number}", ""
        node.input[:] = [name_of(name) for name in node.input]
        for body in _bodies(node):
            _rename(body, name_of)
            for value in (*body.input, *body.output):
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
