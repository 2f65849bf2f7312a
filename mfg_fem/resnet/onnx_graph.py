"""The network as an ONNX graph, written node by node. Imported by ResNet.to_onnx only."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mfg_fem.errors import ProblemError

OPSET, IR = 13, 8  # old enough for every runtime of the last years


def model(net, dtype: str = "float64"):
    """The ModelProto of a ResNet: x of shape (n, d) to y of shape (n, d)."""
    if dtype not in ("float64", "float32"):
        raise ProblemError(f"dtype must be 'float64' or 'float32', not {dtype!r}.")
    kind = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def node(kind, inputs, output):
        nodes.append(helper.make_node(kind, inputs, [output]))
        return output

    x, moves = "x", []
    for k in range(net.layers):
        _, two, h = net.recurrence(k)
        if net.form == "affine":
            features, matrix = x, net.A[k]
        else:
            z = node("MatMul", [x, constant(f"W{k}", net.W[k].T)], f"Wx{k}")
            z = node("Add", [z, constant(f"b{k}", net.b[k])], f"z{k}")
            features, matrix = node("Tanh", [z], f"tanh{k}"), net.V[k]
        F = node("MatMul", [features, constant(f"V{k}", h * matrix.T)], f"V_tanh{k}")
        move = node("Add", [F, constant(f"c{k}", h * net.c[k])], f"hF{k}")
        if two:  # x_k + (x_k - x_{k-1}), the bracket being the move before: see torch_module.py
            move = node("Add", [moves[-1], move], f"move{k}")
        moves.append(move)
        x = node("Add", [x, move], "y" if k == net.layers - 1 else f"x{k + 1}")

    inputs = [helper.make_tensor_value_info("x", kind, ["n", net.dim])]
    outputs = [helper.make_tensor_value_info("y", kind, ["n", net.dim])]
    graph = helper.make_graph(nodes, "mfg_fem.resnet", inputs, outputs, constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR, producer_name="mfg_fem")
