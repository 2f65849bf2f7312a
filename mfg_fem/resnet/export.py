"""The network as a torch module and as an ONNX graph: see ResNet.to_torch and ResNet.to_onnx."""

import numpy as np

from mfg_fem.validate import choice

try:
    import torch
    from torch.nn import Module
except ImportError:  # an ONNX graph needs no torch
    Module = object

DTYPES = ("float64", "float32")
OPSET, IR = 13, 8  # old enough for every runtime of the last years


class TorchResNet(Module):
    """The layers of a ResNet, with its arrays as trainable parameters of the same names."""

    def __init__(self, net, dtype: str = "float64"):
        super().__init__()
        choice("dtype", dtype, DTYPES)
        for name, array in net.arrays.items():
            value = torch.tensor(array, dtype=getattr(torch, dtype))
            self.register_parameter(name, torch.nn.Parameter(value))
        self.form, self.recurrence = net.form, [net.recurrence(k) for k in range(net.layers)]

    def forward(self, x: "torch.Tensor") -> "torch.Tensor":
        """Output of the last layer, shape (n, d).

        Leapfrog's 2 x_k - x_{k-1} is x_k plus the move before: rounding then adds up layer by
        layer, where the difference of positions would let it grow like the layers squared.
        """
        move = 0.0
        for k, (_, two, h) in enumerate(self.recurrence):
            if self.form == "affine":
                F = x @ self.A[k].T + self.c[k]
            else:
                F = torch.tanh(x @ self.W[k].T + self.b[k]) @ self.V[k].T + self.c[k]
            move = two * move + h * F
            x = x + move
        return x


def onnx_model(net, dtype: str = "float64"):
    """The ModelProto of a ResNet: x of shape (n, d) to y of shape (n, d)."""
    from onnx import TensorProto, helper, numpy_helper

    choice("dtype", dtype, DTYPES)
    kind = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def node(kind, inputs, output):
        nodes.append(helper.make_node(kind, inputs, [output]))
        return output

    x, move = "x", ""
    for k in range(net.layers):
        _, two, h = net.recurrence(k)
        if net.form == "affine":
            features, matrix = x, net.A[k]
        else:
            z = node("MatMul", [x, constant(f"W{k}", net.W[k].T)], f"Wx{k}")
            z = node("Add", [z, constant(f"b{k}", net.b[k])], f"z{k}")
            features, matrix = node("Tanh", [z], f"tanh{k}"), net.V[k]
        F = node("MatMul", [features, constant(f"V{k}", h * matrix.T)], f"V_tanh{k}")
        hF = node("Add", [F, constant(f"c{k}", h * net.c[k])], f"hF{k}")
        move = node("Add", [move, hF], f"move{k}") if two else hF  # as in TorchResNet.forward
        x = node("Add", [x, move], "y" if k == net.layers - 1 else f"x{k + 1}")

    inputs = [helper.make_tensor_value_info("x", kind, ["n", net.dim])]
    outputs = [helper.make_tensor_value_info("y", kind, ["n", net.dim])]
    graph = helper.make_graph(nodes, "mfg_fem.resnet", inputs, outputs, constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR, producer_name="mfg_fem")
