"""Polish: L-BFGS on all parameters of a network for the positions at the end."""

import numpy as np
from scipy.optimize import minimize

from mfg_fem.resnet.network import ResNet


def polish_end_to_end(net: ResNet, x: np.ndarray, goal: np.ndarray, steps: int) -> ResNet:
    """Minimise the mean square distance to the goal after the last layer.

    Args:
        net: where to start; the result is never worse on x.
        x: points before the first layer, shape (n, d).
        goal: where they shall be after the last, shape (n, d).
        steps: at most this many L-BFGS steps.
    """
    names, shapes = list(net.arrays), [a.shape for a in net.arrays.values()]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def unpack(p):
        parts = np.split(p, ends)
        pairs = zip(names, parts, shapes, strict=True)
        return net.with_arrays(**{name: part.reshape(s) for name, part, s in pairs})

    # L-BFGS expects a cost of order one; a parameter of size 100 should not count 100 times less.
    start = np.concatenate([a.ravel() for a in net.arrays.values()])
    size = loss(net, x, goal)[0] or 1.0
    unit = np.maximum(np.abs(start), 1e-3 * np.abs(start).max() or 1.0)

    def objective(p):
        value, gradient = loss(unpack(p * unit), x, goal)
        return value / size, unit * np.concatenate([gradient[n].ravel() for n in names]) / size

    options = {"maxiter": int(steps), "maxcor": 20, "ftol": 1e-14, "gtol": 1e-14}
    found = minimize(objective, start / unit, jac=True, method="L-BFGS-B", options=options)
    return unpack(found.x * unit) if found.fun < 1 else net


def loss(net: ResNet, x: np.ndarray, goal: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    """(1/2n) sum |net(x) - goal|^2 and its gradient in each array, by one reverse pass.

    With x_{k+1} = a_k x_k - b_k x_{k-1} + h_k F_k(x_k) the adjoints are
    l_k = a_k l_{k+1} + h_k DF_k^T l_{k+1} - b_{k+1} l_{k+2}, from l_K = (x_K - goal) / n.
    """
    path = net.trajectory(x)
    error = path[-1] - goal
    gradient = {name: np.zeros(a.shape) for name, a in net.arrays.items()}
    adjoint, later = error / len(x), np.zeros_like(error)  # l_{k+1}, and -b_{k+1} l_{k+2} for l_k
    for k in reversed(range(net.layers)):
        one, two, h = net.recurrence(k)
        force = h * adjoint
        gradient["c"][k] = force.sum(axis=0)
        if net.form == "affine":
            gradient["A"][k] = force.T @ path[k]
            back = force @ net.A[k]
        else:
            phi = np.tanh(path[k] @ net.W[k].T + net.b[k])
            gradient["V"][k] = force.T @ phi
            inner = (force @ net.V[k]) * (1 - phi**2)
            gradient["W"][k], gradient["b"][k] = inner.T @ path[k], inner.sum(axis=0)
            back = inner @ net.W[k]
        adjoint, later = one * adjoint + back + later, -two * adjoint
    return float(np.sum(error**2) / (2 * len(x))), gradient
