"""A network's file in fewer bits: it gets smaller, and int8 lets users depend on each other."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.scale.precision import in_float16, in_int8

SIDE = 64


@pytest.fixture(scope="module")
def product() -> bytes:
    """A matrix product of some users' numbers with weights."""
    weights = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    given, said = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["users", SIDE])
        for name in ("given", "said")
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["given", "weights"], ["said"])], "product", [given], [said],
        [numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 15)]
    return helper.make_model(graph, ir_version=8, opset_imports=opset).SerializeToString()


def said(network: bytes, given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    return session.run(None, {"given": given})[0]


def test_fewer_bits_are_a_smaller_file_and_rounded_words(product):
    given = np.random.default_rng(1).normal(size=(2, SIDE)).astype(np.float32)
    exact = said(product, given)
    for fewer, size, apart in ((in_float16, 0.6, 0.05), (in_int8, 0.4, 1.0)):
        network = fewer(product)
        assert len(network) < size * len(product)
        assert 0 < np.abs(said(network, given) - exact).max() < apart
    assert len(in_int8(product, ["LSTM"])) > 0.9 * len(product)


def test_in_int8_a_word_depends_on_who_else_is_in_the_batch(product):
    given = np.random.default_rng(1).normal(size=(2, SIDE)).astype(np.float32)
    loud = np.concatenate([given[:1], 10 * given[1:]])
    for network, same in ((product, True), (in_float16(product), True), (in_int8(product), False)):
        assert (said(network, loud)[0] == said(network, given)[0]).all() == same
