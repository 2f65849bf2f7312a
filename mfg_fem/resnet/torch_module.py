"""The network as a torch module. Imported by ResNet.to_torch only."""

import torch

from mfg_fem.errors import ProblemError


class TorchResNet(torch.nn.Module):
    """The layers of a ResNet, with its arrays as trainable parameters of the same names."""

    def __init__(self, net, dtype: str = "float64"):
        super().__init__()
        if dtype not in ("float64", "float32"):
            raise ProblemError(f"dtype must be 'float64' or 'float32', not {dtype!r}.")
        for name, array in net.arrays.items():
            value = torch.tensor(array, dtype=getattr(torch, dtype))
            self.register_parameter(name, torch.nn.Parameter(value))
        self.form, self.recurrence = net.form, [net.recurrence(k) for k in range(net.layers)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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
