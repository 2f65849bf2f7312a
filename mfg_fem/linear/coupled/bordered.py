"""The Newton equation with prices: J dX + R_pi dpi = R, G_X dX + G_pi dpi = G.

`BorderedForm` is flexible GMRES on all of it, preconditioned on the right by

    dpi = S^-1 G,     dX = P (R - R_pi dpi),     S = G_pi - G_X P R_pi,

where P is about J^-1. With x = A^-1 r_u it is

    du = x,        dm = B^-1 (r_m - D x)                  where the coupling is weak,
    du = x + v,    dm = F0^-1 A v,    H v = r_m - D x     where it is strong,

with one application of `MatchedSweeps` to the last equation, so that there are about as many
iterations as of the Schur form and of the H-form. (If F is not F0, du = A^-1 (r_u + F dm).) Where
costs do not see the crowd P is J^-1, and two iterations do, whether a price stands in G or not. S
is dense, as a price is felt at all times, and each of its columns, one for each price and step,
costs a P: with many steps in 2D that is most of the work. So S is kept as long as solves take few
iterations.
"""

from typing import Any

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.clearing import Clearing, joined
from mfg_fem.errors import ProblemError
from mfg_fem.linear.coupled.formulations import Equation, TwoFieldForm
from mfg_fem.linear.coupled.matched_sweeps import Coupling, MatchedSweeps

WORTH = 0.25  # iterations of a solve per column of S from which S is made anew
TIGHTER = 0.03  # tolerance of GMRES, relative to that which SNES asks for
SINGULAR = 1e-12  # relative size of S, or inverse of its condition number, that is zero


class BorderedForm(TwoFieldForm):
    """Flexible GMRES on both fields and prices. The equation has the scale and unit of both."""

    def __init__(self, equation: Equation, clearing: Clearing):
        super().__init__(equation)
        self.clearing = clearing
        self.inverse = np.zeros((0, 0))
        self.coupling, self.strong = Coupling(self.J), False
        self.matched: Any = None  # until the coupling is strong

    def __str__(self):
        """What the history calls it."""
        return f"bordered form ({self.matched})" if self.strong else "bordered form"

    def free(self):
        """Free PETSc's objects."""
        super().free()
        if self.matched:
            self.matched.destroy()

    def begin(self, atol: float):
        """Take over the norm of all scaled rows at which Newton stops."""
        super().begin(atol)
        self.inverse = np.zeros((0, 0))

    def tolerance(self, forcing: float) -> float:
        """Tighter than SNES's tolerance everywhere, as S makes iterations few."""
        return TIGHTER * forcing

    def refresh(self, coefficients: np.ndarray):
        """Take over a new linearisation and its coefficients f_ij and a_i. Collective."""
        size, was = self.clearing.own[0].size, self.strong
        self.coupling.refresh(coefficients)
        self.strong = self.coupling.strong
        if self.strong:
            self.matched = self.matched or MatchedSweeps(self.coupling, self.equation.plan)
            self.matched.refresh()
        if not self.inverse.size or self.strong != was or self.iterations > WORTH * size:
            self.inverse = self._inverse(size)

    def _inverse(self, size: int) -> np.ndarray:
        """S^-1. Collective."""
        clearing, shape = self.clearing, self.clearing.own.shape[1:]
        S, sizes = np.empty((2, size, size))
        for column in range(size):
            dpi = np.zeros(shape)
            dpi.flat[column] = 1.0
            S[:, column], sizes[:, column] = clearing.mult_fields(
                self._sweep(-clearing.mult_prices(dpi))
            )
        S, sizes = clearing.comm.allreduce(np.stack([S, sizes]), MPI.SUM)
        places = np.arange(size).reshape(shape)
        for n in range(shape[1]):
            S[np.ix_(places[:, n], places[:, n])] += clearing.own[..., n]
        largest = np.abs(S).max(axis=0)
        if (largest <= SINGULAR * sizes.max(axis=0)).any() or np.linalg.cond(S) > 1 / SINGULAR:
            raise ProblemError(
                "A market does not react to its price where Newton is, so that no price makes it "
                "clear. Is the excess demand one of what the price moves? Else start elsewhere, "
                "with mfg.price(name, start=...) or guess=."
            )
        return np.linalg.inv(S)

    def _sweep(self, R: np.ndarray) -> np.ndarray:
        """P R."""
        sweeps = self.equation.sweeps
        du = sweeps.backward(R[0], rough=True)
        r = R[1] - self.J.mult_D(du, np.zeros_like(du[:, 0]))
        if not self.strong:
            return np.stack([du, sweeps.forward(r, rough=True)])
        v = self.matched.solve(r)
        dm = self.coupling.density(v)
        if self.coupling.exact:
            return np.stack([du + v, dm])
        return np.stack([sweeps.backward(R[0] + self.J.mult_F(dm), rough=True), dm])

    def mult(self, mat, x, y):
        """The scaled Jacobian, called by PETSc."""
        product = self.clearing.mult_jacobian(self.equation.unit * self._split(x))
        y.array[:] = (self.scale * product).ravel()

    def apply(self, pc, x, y):
        """Apply the preconditioner, called by PETSc."""
        R, G = self.clearing.parts_of(self._split(x) / self.scale)
        dpi = (self.inverse @ G.ravel()).reshape(G.shape)
        dX = self._sweep(R - self.clearing.mult_prices(dpi))
        y.array[:] = (joined(dX, dpi, self.J.comm) / self.equation.unit).ravel()
