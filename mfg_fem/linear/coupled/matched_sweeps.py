"""The coupling of the two equations, preconditioned: matched sweeps.

Write the Newton equation as A du - F dm = r_u, D du + B dm = r_m, where F ~ f w (f the derivative
of the running cost and of -H in m, w the lumped mass) and D ~ a K (a = m H_pp, K the stiffness).
With F replaced by its lumped diagonal F0, eliminating dm leaves on du the operator

    H = B F0^-1 A + D,      symbol  (omega^2 + (nu |k|^2)^2) / f + a |k|^2

at frequency omega and wave number |k|, for diffusion nu and constant coefficients. The sweeps
A^-1 F0 B^-1 alone ignore D, and H A^-1 F0 B^-1 has eigenvalues up to 1 + `strength`. Instead, use

    P = (B + X) F0^-1 (A + X),      X = K_q / (2 kappa) + (kappa / 2) q w,      q = sqrt(f a),

with K_q the stiffness with coefficient q: the symbol of P is (omega^2 + (nu |k|^2 + x)^2) / f with
x = q (|k|^2 / kappa + kappa) / 2 >= q |k|, an equality at |k| = kappa. So P is H with the square
root of its coupling moved into both sweeps, and as f a |k|^2 = (q |k|)^2 = x^2 / r^2,

    1 / (1 + r^2)  <=  H / P  <=  1,      r = (|k| / kappa + kappa / |k|) / 2,

whatever the coupling, the diffusion and the frequency. (With y = nu |k|^2, c = q |k|, x = r c:
H/P >= (y^2 + c^2) / (y + r c)^2, by Cauchy-Schwarz at least 1 / (1 + r^2).) Constants, |k| = 0,
have no such bound: the coarse space contains them. X is symmetric, as the
sweeps are adjoint but for their drift, and its off-diagonal entries are those of K_q: on a mesh
where K is of M-type so is X, and the matched sweeps are diagonally dominant whatever q is.

Without congestion (B + X)^T stands for A + X where the factors are incomplete: `serve_both`.

kappa is the geometric mean of the ends of the range where P is needed: from what the coarse space
(`coarse.py`) resolves, to the mesh, or to q / nu, beyond which diffusion wins. A consistent F
couples less than F0 at high frequencies, and with the Euler pair a kappa CONSISTENT times as large
takes one or two iterations less. The coarse space comes first and multiplicatively:
v0 = Z H_c^-1 Z^T r,  v = v0 + P^-1 (r - H v0).

The midpoint rule sees averages T du and T* dm of two levels:  H = B T*^-1 F0^-1 A + D T  and
P = (B + X T*) T*^-1 F0^-1 (A + X T).
"""

from functools import cached_property
from itertools import chain

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.coupled.coarse_space import CoarseSpace, bounding_box
from mfg_fem.linear.level.factors import serve_both
from mfg_fem.linear.level.sweeps import SMALL, Sweeps, direct, incomplete, iterative
from mfg_fem.validate import count

SAME = PETSc.Mat.Structure.SAME_NONZERO_PATTERN
FLOOR = 1e-6  # of the largest f: F0 must be invertible where nobody minds the crowd
ROUND_OFF = 1e-10
WITH_EXITS = 10_000
DIFFUSIVE = 40.0
CONSISTENT = 1.3
COARSE_SIZES = {1: (8, 256), 2: (5, 20), 3: (4, 8)}  # by dimension: at least, at most


class Coupling:
    """The coefficients of the coupling at the last linearisation, and the operator H.

    Attributes:
        F0: lumped F, shape (steps, owned), positive.
        q: sqrt(f a), zero at exits; q_max the largest.
        sloped: whether the terminal cost depends on the density.
        uniform: whether all levels are alike.
    """

    def __init__(self, system: SpaceTime):
        self.system = system
        d = system.discrete
        comm = d.comm
        # P2's row sums of the mass vanish at vertices: its diagonal, scaled to the whole volume.
        sums = np.array([d.weights.sum(), d.norm_weights.sum()])
        volume, trace = comm.allreduce(sums, MPI.SUM)
        self.weights = d.norm_weights * (volume / trace)
        low, high = bounding_box(d)
        self.longest = (high - low).max()

    def refresh(self, coefficients: np.ndarray):
        """The system has been linearised anew, with this f and a, overwritten here. Collective."""
        system, comm, held = self.system, self.system.comm, self.system.discrete.held
        self.__dict__.pop("exact", None)
        slope = system.terminal_slope
        self.sloped = comm.allreduce(bool(slope.any()), MPI.LOR)
        self.uniform = system.uniform and not self.sloped
        f, a = coefficients
        f[-1] += slope / system.dt  # u^N = u_T(m^N) is eliminated
        f[:, held] = a[:, held] = 0.0
        for n in range(system.steps):
            a[n] = np.sqrt(np.maximum(f[n], 0.0) * np.maximum(a[n], 0.0))
        np.abs(f, out=f)
        largest = np.array([y.max(initial=0.0) for y in (f, a)])
        comm.Allreduce(MPI.IN_PLACE, largest, MPI.MAX)
        top, self.q_max = largest
        units = system.discrete.problem.units
        np.maximum(f, FLOOR * (top or units.cost / units.time / units.density), out=f)
        f[:, held] = 1.0
        f *= self.weights
        self.F0, self.q = f, a

    @cached_property
    def exact(self) -> bool:
        """Whether F is F0, so that HJB rows hold for du = v, dm = F0^-1 A v. Collective.

        They are, if they do the same to a density with all frequencies.
        """
        dm = np.random.default_rng(0).standard_normal(self.F0.shape)
        dm[:, self.system.discrete.held] = 0.0
        y = self.system.mult_F(dm)
        defect, size = (
            self.system.comm.allreduce(np.abs(z).max(initial=0.0), MPI.MAX)
            for z in (y - self.mult_F0(dm), y)
        )
        return bool(defect <= ROUND_OFF * size)

    @property
    def strength(self) -> float:
        """Largest of f a |k|^2 / (omega^2 + (nu |k|^2)^2): what the coupling adds to the sweeps.

        At the lowest frequency of [0, T] with one end free, omega = pi / 2T, and over |k| from the
        size of the domain on; GMRES on the Schur form takes about 2 sqrt(strength) iterations.
        """
        omega, nu = np.pi / (2 * self.system.discrete.problem.horizon), self.system.diffusion
        square = max((np.pi / self.system.discrete.diameter) ** 2, omega / nu)
        return self.q_max**2 * square / (omega**2 + (nu * square) ** 2)

    def mult_F0(self, dm: np.ndarray) -> np.ndarray:
        """F0 T* dm."""
        s = self.system.half
        y = (1 - s) * dm
        y[1:] += s * dm[:-1]
        y *= self.F0
        return y

    def density(self, du: np.ndarray) -> np.ndarray:
        """T*^-1 F0^-1 A du, the change of the density that makes du right."""
        s = self.system.half
        dm = self.system.mult_A(du)
        dm /= (1 - s) * self.F0 if s else self.F0
        if s:
            for n in range(1, len(dm)):
                dm[n] -= s / (1 - s) * dm[n - 1]
        return dm

    def mult_H(self, du: np.ndarray) -> np.ndarray:
        """H du."""
        dm = self.density(du)
        y = self.system.mult_B(dm)
        y += self.system.mult_D(du, dm[-1])
        return y


def default_solvers(coupling: Coupling) -> dict[str, object]:
    """Options of the solvers of one time level, of A + X and B + X (`matched_`) and A (`start_`).

    The second is taken where the sweeps of the system are inexact. The first is direct in 1D, up to
    SMALL nodes, and with exits up to WITH_EXITS nodes: on graded meshes ILU took 31 iterations a
    Newton step there, direct blocks 12. Beyond, one application of incomplete factors, which costs
    a tenth of a factorisation and leaves the number of iterations as it is: in 2D always, as their
    fill grows with the diffusion number (GMRES with ILU(2) took a tenth to a sixth more time), in
    3D up to DIFFUSIVE. Then GMRES with them: as good as a factorisation at two thirds of time and
    memory.
    """
    system, d = coupling.system, coupling.system.discrete
    dim, ranks = d.problem.domain.dim, system.comm.size
    if dim == 1 or system.nodes <= (WITH_EXITS if d.exits else SMALL):
        matched = direct(system.nodes, ranks)
    elif dim == 3 and system.diffusion_number > DIFFUSIVE:
        matched = iterative(dim, ranks, 1e-2)
    else:
        matched = {"ksp_type": "preonly"} | incomplete(dim, ranks, system.diffusion_number)
    start = iterative(dim, ranks, 1e-2)  # `HForm` asks for its own
    return {f"matched_{k}": v for k, v in matched.items()} | {
        f"start_{k}": v for k, v in start.items()
    }


def coarse_size(coupling: Coupling) -> int:
    """Coarse functions in the longest direction, unless the option `coarse_size` says otherwise."""
    # Growing almost as the mesh, so that r grows as its power .07 only and counts hardly at all; to
    # an end, as dense factors of n functions a level cost n^3.
    # Rounded, as sums on ranks differ in the last digit.
    across = round(coupling.longest / coupling.system.discrete.mesh_size, 6)
    least, most = COARSE_SIZES[coupling.system.discrete.problem.domain.dim]
    size = min(max(least, round(0.29 * across**0.87)), most)
    size = count("-mfg_coarse_size", PETSc.Options(petsc.PREFIX).getInt("coarse_size", size), 0)
    return min(size, round(across / 2))  # two nodes a function


def needs_factors_only(system: SpaceTime) -> bool:
    """Whether matched sweeps need the factors of a level and not its matrix: then one will do."""
    krylov = PETSc.Options(petsc.PREFIX + "matched_").getString("ksp_type", "")
    return krylov == "preonly" and not system.half


class MatchedSweeps:
    """P^-1 after the coarse space.

    Options (prefix `mfg_`): `coarse_size`, functions per direction (0: none), `wave_number`, kappa,
    and `matched_`, the solver of one time level of A + X and B + X.
    """

    def __init__(self, coupling: Coupling):
        self.coupling, self.system = coupling, coupling.system
        create, steps = self.system.discrete.pattern.create, self.system.steps
        self.factors_only = needs_factors_only(self.system)
        self.blocks = {
            name: [create()] * steps if self.factors_only else [create() for _ in range(steps)]
            for name in ("B" if serve_both(self.system.discrete, "matched_") else "AB")
        }
        self.sweeps = Sweeps(self.system, self.blocks, "matched_")
        size = coarse_size(coupling)
        self.coarse = CoarseSpace(self.system, size) if size else None
        self.given_wave_number = PETSc.Options(petsc.PREFIX).getReal("wave_number", 0.0)
        self._scratch = [self.system.A[0].duplicate() for _ in range(2)]
        self._free = np.ones(self.system.owned)
        self._free[self.system.discrete.held] = 0.0

    def destroy(self):
        """Free the matrices and the solvers."""
        self.sweeps.destroy()
        if self.coarse:
            self.coarse.destroy()
        for M in (*chain(*self.blocks.values()), *self._scratch):
            M.destroy()

    def __str__(self):
        """What was chosen, for the report."""
        coarse = f"{self.coarse.size} coarse functions" if self.coarse else "no coarse space"
        return f"wave number {self.wave_number:.3g}, {coarse}, {self.sweeps} on each level"

    def refresh(self):
        """Take over the last linearisation. Collective."""
        system, coupling = self.system, self.coupling
        self.wave_number = self.given_wave_number or self._matched_wave_number()
        for n in range(system.steps):
            X = self._X(coupling.q[n])
            for name, blocks in self.blocks.items():
                getattr(system, name)[n].copy(blocks[n], SAME)
                blocks[n].axpy(1 - system.half, X, SAME)
                if self.factors_only:
                    self.sweeps.factors[name].update(n)
        system.discrete.pattern.free_scratch()
        if self.coarse:
            self.coarse.refresh(coupling)

    def _matched_wave_number(self) -> float:
        length = self.coarse.spacing if self.coarse else self.system.discrete.diameter
        high = min(
            np.pi / self.system.discrete.mesh_size, self.coupling.q_max / self.system.diffusion
        )
        kappa = np.pi * np.sqrt(max(high * length / np.pi, 1.0)) / length
        return kappa if self.coupling.exact or self.system.half else CONSISTENT * kappa

    def _X(self, q: np.ndarray) -> PETSc.Mat:
        """K_q / (2 kappa) + (kappa / 2) q w.

        K_q has the entries K_ij (q_i + q_j) / 2 and constants in its kernel, that is
        K_q = (Q K + K Q - diag(K q)) / 2.
        """
        K, kappa = self.system.discrete.stiffness, self.wave_number
        X, KQ = self._scratch
        scaling = K.createVecRight()
        scaling.array[:] = q
        K.copy(X, SAME)
        X.diagonalScale(scaling, None)
        K.copy(KQ, SAME)
        KQ.diagonalScale(None, scaling)
        X.axpy(1.0, KQ, SAME)
        diagonal = X.getDiagonal()
        diagonal.array[:] += 2 * kappa**2 * q * self.coupling.weights - self.system.mult(K, q)
        X.setDiagonal(diagonal)
        X.scale(1 / (4 * kappa))
        if self.system.discrete.exits:
            scaling.array[:] = self._free
            X.diagonalScale(scaling, scaling)
        return X

    def solve(self, r: np.ndarray) -> np.ndarray:
        """V with H v about r."""
        if not self.coarse:
            return self._sweep(r)
        v = self.coarse.solve(r)
        left = self.coupling.mult_H(v)
        np.subtract(r, left, out=left)
        v += self._sweep(left)
        return v

    def _sweep(self, r: np.ndarray) -> np.ndarray:
        return self.sweeps.backward(self.coupling.mult_F0(self.sweeps.forward(r)))
