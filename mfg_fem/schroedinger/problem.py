"""What a wave is: NonlinearSchroedinger, checked when it is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

import numpy as np

import ufl
from dolfinx import fem
from ufl.algorithms import strip_variables
from ufl.algorithms.analysis import extract_constants

from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.mesh.domain import Domain, boundary_dofs
from mfg_fem.mesh.values import VertexValues, check_finite
from mfg_fem.problem.conditions import check_outer
from mfg_fem.problem.data import Data, as_data
from mfg_fem.problem.game import Given
from mfg_fem.problem.moments import moments
from mfg_fem.problem.seams import check_alike
from mfg_fem.validate import number

POTENTIAL, INITIAL = "potential(x, t, rho)", "initial(x)"


@dataclass(frozen=True, kw_only=True, eq=False)
class NonlinearSchroedinger:
    """The Schroedinger equation in real time, linear or not.

        i hbar psi_t = -(hbar^2 / 2) lap psi + V(x, t, rho) psi,    rho = |psi|^2,    psi(0) given,

    in units in which the mass of the particle is one. Without a V that depends on t it conserves
    the mass int rho and the energy

        E = int hbar^2 / 2 |grad psi|^2 + W(x, rho) dx,    W = int_0^rho V(x, s) ds.

    This is Nelson's problem, not that of a mean-field control. With psi = sqrt(rho) exp(i S / hbar)
    the density moves with the velocity grad S, and E is kinetic energy *plus* hbar^2 / 8 times the
    Fisher information *plus* W; but the action is kinetic energy *minus* both, where a planner with
    the diffusion D pays for their sum (`hydrodynamics`). One becomes the other by hbar^2 = nu^4
    with the opposite sign of the Fisher and the potential term, where nu^2 = 2 D is the squared
    noise: hbar = nu^2 = 2 D, V = -f. So packets spread where bridges contract. Ground states are
    the same problem in both, with V = f: see `ground_state`. Nelson 1966; Guerra, Morato 1983.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh, also a periodic one.
        horizon: the final time T.
        hbar: > 0, in units of length^2 / time.
        potential: V(x, t, rho) as UFL, smooth in rho, in units of length^2 / time^2.
        initial: x -> (real, imaginary part) as UFL, or such a pair. Its mass may be any.
        zero: names of boundaries on which psi = 0, walls of infinite potential. On all others the
            normal derivative of psi is zero; they reflect the wave too.

    Raises:
        ProblemError: data that make no sense, on every rank alike.
        MeshError: a boundary name the mesh does not have.
    """

    domain: Domain = field(kw_only=False)
    horizon: float
    hbar: float
    potential: Given | float
    initial: Callable | Sequence
    zero: Sequence[str] = ()
    data: Data = field(init=False, repr=False)
    boundary: ClassVar[Mapping] = MappingProxyType({})  # pictures ask for exits: it has none

    def __post_init__(self):
        """Check everything that can be known before a solve starts. Collective."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        with together(self.domain.comm):
            numbers = {
                name: number(name, getattr(self, name), above=True) for name in ("horizon", "hbar")
            }
        for name, value in numbers.items():
            object.__setattr__(self, name, value)
        alike(self.domain.comm, **numbers)
        object.__setattr__(self, "zero", check_zero(self.domain, self.zero))
        data = Data(self.domain)
        data.state(POTENTIAL, self.potential, "xtm")
        data.state(INITIAL, lambda x: self._pair(x), "x", ((2,),))
        object.__setattr__(self, "data", data)
        self.check()

    def _pair(self, x) -> ufl.core.expr.Expr:
        given = self.initial(x) if callable(self.initial) else self.initial
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ProblemError(
                "it must be a pair, the real and the imaginary part, such as "
                "lambda x: (ufl.exp(-x[0]**2), 0)"
            )
        return ufl.as_vector([as_data(part, self.domain.mesh, x) for part in given])

    def check(self):
        """Look at the data anew: Functions, Constants and meshes may have changed. Collective."""
        mesh = self.domain.mesh
        self.domain.check()
        psi = self.psi0(self.x)
        density = VertexValues(mesh, ufl.dot(psi, psi))
        check_finite(density.extremes()[0], INITIAL)
        mass = density.integral()
        if not mass > 0:
            raise ProblemError(f"{INITIAL} vanishes on the whole mesh: there is no wave.")
        check_alike(self.domain, self.x, {INITIAL: self.psi0})
        t, rho = fem.Constant(mesh, 0.0), fem.Constant(mesh, mass / self.domain.volume())
        values = VertexValues(mesh, self.V(self.x, t, rho))
        for moment in moments(self.horizon, not self.autonomous):
            t.value = moment
            (found,) = values.extremes()
            check_finite(found, POTENTIAL, f" at t = {moment:g}, for the mean density")

    @property
    def title(self) -> str:
        """What files call it."""
        return type(self).__name__

    @property
    def x(self) -> ufl.SpatialCoordinate:
        """The space coordinate of the forms."""
        return self.data.x

    @property
    def autonomous(self) -> bool:
        """Whether V does not depend on t, so that there is an energy to conserve."""
        expression = strip_variables(self.V(self.x, self.data.t, self.data.m))
        return self.data.t not in extract_constants(expression)

    def V(self, x, t, rho) -> ufl.core.expr.Expr:
        """The potential."""
        return self.data(POTENTIAL, x=x, t=t, m=rho)

    def psi0(self, x) -> ufl.core.expr.Expr:
        """Real and imaginary part at the start, a vector."""
        return self.data(INITIAL, x=x)


def check_zero(domain, zero) -> tuple[str, ...]:
    """Check the names of the boundaries where a wave vanishes. Collective."""
    with together(domain.comm):
        if not isinstance(zero, tuple | list):
            raise ProblemError(
                f'zero must be a list of names of boundaries, such as ("left",), not {zero!r}.'
            )
        for name in zero:
            domain.facets(name)
    alike(domain.comm, zero=[*zero])
    check_outer(domain, [*zero], "a boundary where psi = 0")
    return tuple(zero)


def held_dofs(domain, V: fem.FunctionSpace, zero: Sequence[str]) -> np.ndarray:
    """Local degrees of freedom of V on the boundaries where a wave vanishes. Collective."""
    found = [boundary_dofs(domain, V, name) for name in zero]
    return np.unique(np.concatenate([np.empty(0, dtype=np.int32), *found]))
