"""Checks of the data of a problem when it is stated, with the same verdict on every rank."""

from collections.abc import Mapping

import numpy as np

import basix
import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives
from ufl.algorithms.analysis import extract_constants

from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.mesh.values import VertexValues, check_finite, eigenvalues, matrices
from mfg_fem.problem.boundary import Exit, Open, data_name
from mfg_fem.problem.conditions import check_boundaries, check_condition, check_datum, check_outer
from mfg_fem.problem.crowding import Crowding, check_density, check_sign
from mfg_fem.problem.data import InTime
from mfg_fem.problem.ends import check_ends, floor_of
from mfg_fem.problem.moments import moments
from mfg_fem.problem.seams import check_periodic
from mfg_fem.problem.units import Units, gradient_for
from mfg_fem.validate import number

SIGNATURES = {
    "hamiltonian": "(x, p, m)",
    "running_cost": "(x, t, m)",
    "terminal_cost": "(x, m)",
    "initial_density": "(x)",
    "terminal_density": "(x)",
    "source": "(x, t)",
}
KINK = (
    " Where H is like |p|^b with b < 2, it has a kink there: hamiltonians.power(b) is smooth, and "
    "so is any function of |p|^2 + s^2 with a small s."
)
REMEDY = (
    "Write it of m + s with a small density s, of a thousandth of the mean density for instance: "
    "ufl.ln(m + s)."
)
TIMED = ("hamiltonian", "running_cost", "source")  # what may be `InTime`, a diffusion besides
MISSING = ("source", "terminal_cost", "terminal_density")  # what may be None


def check_arguments(problem) -> dict[str, float]:
    """Check types and numbers, without evaluating a callable; returns the numbers. Collective."""
    domain = problem.domain
    with together(domain.comm):
        numbers = {"population": number("population", problem.population, above=not problem.empty)}
        if problem.horizon is not None:
            numbers["horizon"] = number("horizon", problem.horizon, above=True)
        numbers["discount"] = number("discount", problem.discount)
        check_ends(problem)
        if (floor := floor_of(problem)) is not None:
            numbers["floor"] = floor
        for name in SIGNATURES:
            value = getattr(problem, name)
            if value is None and (name in MISSING or problem.stationary):
                continue
            if isinstance(value, InTime) and name in TIMED:
                value = value.data
            if not callable(value):  # as UFL's expressions are
                raise ProblemError(
                    f"{name} must be a callable {SIGNATURES[name]} -> UFL or number, or a UFL "
                    f"expression, not {value!r}. For a constant write lambda *_: value."
                )
        check_datum("diffusion", problem.diffusion)
        if not isinstance(problem.boundary, Mapping):
            raise ProblemError('boundary must be a dict such as {"exits": mfg.Exit(cost=0.0)}.')
        for name, condition in problem.boundary.items():
            domain.facets(name)
            check_condition(name, condition)
    alike(domain.comm, problem=type(problem).__name__, **numbers, boundary=[*problem.boundary])
    check_outer(domain, [*problem.boundary], "a way out or in")
    return numbers


def check_values(problem, crowding: Crowding) -> tuple[Units, tuple[str, ...]]:
    """Evaluate all data on the mesh: they must be finite, of the right sign and shape, convex.

    Returns the units of the problem, and the names of data that are infinite, or have an infinite
    derivative, at m = 0.
    """
    domain = problem.domain
    if problem.stationary and (timed := problem.data.timed):
        raise ProblemError(
            f"{timed[0]} depends on t, and a problem without a horizon has no time: give horizon=, "
            "or data that are the same at all times."
        )
    gdim, mesh = domain.dim, domain.mesh
    t = fem.Constant(mesh, 0.0)
    p = ufl.variable(fem.Constant(mesh, np.zeros(gdim)))
    x, D, m = problem.x, problem.D(problem.x, t), crowding.seen_by(problem, t)
    costs = {
        "running_cost(x, t, m)": problem.f(x, t, m),
        "terminal_cost(x, m)": problem.g(x, m),
        "source(x, t)": problem.s(x, t),
    }
    for name in problem.ways_out:
        crowd = "(m)" if problem.data.depends(data_name(name, "cost"), "m") else ""
        costs[data_name(name, "cost") + crowd] = problem.at_boundary(name, "cost", x, t, m)
    H = problem.H(x, t, p, m)

    for name in problem.open:
        check_sign(mesh, problem.at_boundary(name, "density", x, t), data_name(name, "density"))
    if problem.terminal_density is not None:
        check_density(mesh, problem.m_T(x), problem.population, "terminal_density(x)")
    crowding.initial()
    length, largest = domain.volume() ** (1 / gdim), 0.0
    timed = t in extract_constants(D)
    for t.value in moments(problem.horizon or 0.0, timed):
        largest = max(largest, _check_diffusion(mesh, D))
    time = length**2 / largest if problem.horizon is None else float(problem.horizon)
    spread = _check_costs(problem, costs, crowding, t, time)
    check_boundaries(problem, m, t, time)
    check_periodic(problem, m)
    hamiltonian = _Hamiltonian(mesh, H, p, crowding)
    timed = t in extract_constants(H)
    for t.value in moments(time, timed):
        rest = hamiltonian.check(np.zeros(gdim))
    crowding.uniform()
    gradient = hamiltonian.gradient_for(length / time)
    crowding.initial()
    random = np.random.default_rng(0)
    for size in (0.1, 1.0, 10.0):
        hamiltonian.check(size * (gradient or 1.0) * random.standard_normal(gdim))
    if problem.limits:
        hamiltonian.check_limited((gradient or 1.0) * random.standard_normal(gdim))
    crowding.nobody()
    infinite = _infinite(problem, mesh, costs | {"hamiltonian(x, p, m)": H}, crowding, p)
    spread += time * float(np.ptp(rest))
    if problem.terminal_density is not None and gradient is not None:
        spread = np.inf  # the value function that leads people to their places is as large as that
    return Units.of(length, time, problem.population / length**gdim, gradient, spread), infinite


def _check_diffusion(mesh, D) -> float:
    """The largest eigenvalue of D, which has to be symmetric and positive definite."""

    def measures(D):
        transposed = matrices(D).transpose(0, 2, 1).reshape(D.shape)
        with np.errstate(invalid="ignore"):  # infinite ones are refused below
            return D, D - transposed, eigenvalues(D)

    cell = getattr(basix.CellType, mesh.topology.cell_name())
    points = basix.create_lattice(cell, 2, basix.LatticeType.equispaced, True)
    found, asymmetry, ends = VertexValues(mesh, D, points=points).extremes(measures)
    check_finite(found, "diffusion")
    if not np.abs(asymmetry).max() <= 1e-12 * np.abs(found).max():
        raise ProblemError("diffusion must be a symmetric tensor.")
    smallest = ends[0]
    if not smallest > 0:
        raise ProblemError(
            f"diffusion must be positive; its smallest value (or eigenvalue) is {smallest:.3g}. "
            "For nearly deterministic players take a small positive number."
        )
    return float(ends[1])


def _check_costs(
    problem, costs: dict, crowding: Crowding, t: fem.Constant, duration: float
) -> float:
    """Check that costs and their derivatives in m are finite; returns the spread of the costs.

    That is the largest difference between places at one time. Where players may leave, a running
    cost itself makes a difference.
    """
    derivatives = {
        f"d/dm of {name}": crowding.slopes(e) for name, e in costs.items() if "m)" in name
    }
    values = VertexValues(problem.domain.mesh, *costs.values(), *derivatives.values())
    running, terminal = 0.0, 0.0
    timed = any(t in extract_constants(cost) for cost in costs.values())
    for moment in moments(duration, timed):
        t.value = moment
        ends = dict(zip((*costs, *derivatives), values.extremes(), strict=True))
        for name, found in ends.items():
            check_finite(found, name, f" at t = {moment:g} with m = the initial density")
        ends = {name.split("(")[0]: found for name, found in ends.items() if name in costs}
        running = max(running, np.ptp(ends["running_cost"]))
        terminal = np.ptp(ends["terminal_cost"])
        if problem.ways_out:
            running = max(running, np.abs(ends["running_cost"]).max())
            paid = [found for name, found in ends.items() if name not in ("running_cost", "source")]
            terminal = np.ptp(paid)
    return float(duration * running + terminal)


def _infinite(problem, mesh, data: dict, crowding: Crowding, p) -> tuple[str, ...]:
    """Names of the data that are infinite, or have an infinite derivative in m, where m is 0."""
    names = [name for name in data if name.endswith("m)")]
    p.ufl_operands[0].value[...] = 1.0
    terms = [y for name in names for y in (data[name], crowding.slopes(data[name]))]
    ends = VertexValues(mesh, *terms).extremes()
    finite = np.isfinite(ends).all(axis=1).reshape(len(names), 2)
    for name, (value, _) in zip(names, finite, strict=True):
        if not value and problem.named(Exit | Open):
            raise ProblemError(f"{name} is infinite at m = 0, the density at exits. {REMEDY}")
    return tuple(name for name, good in zip(names, finite, strict=True) if not good.all())


class _Hamiltonian:
    """H and its derivatives at one p on the whole mesh."""

    def __init__(self, mesh, H, p, crowding: Crowding):
        (self.p,), self.dim = p.ufl_operands[:1], mesh.geometry.dim
        H_p = ufl.diff(H, p)
        backward = ufl.replace(expand_derivatives(H_p), {self.p: -self.p})
        terms = H, H_p, crowding.slopes(H), ufl.diff(H_p, p), H_p - backward
        self.values = VertexValues(mesh, *terms)

    def check(self, p: np.ndarray) -> np.ndarray:
        """Check that all are finite and H_pp >= 0 at this p; returns the extremes of H."""
        self.p.value[...] = p
        at = f" at p = {np.array2string(p, precision=3)}"
        *found, curvature = self.values.extremes(lambda *terms: (*terms[:4], eigenvalues(terms[3])))
        for name, ends in zip(("", "_p", "_m", "_pp"), found, strict=True):
            check_finite(ends, f"hamiltonian: H{name}", at, "" if p.any() else KINK)
        lowest = curvature[0]
        if lowest < -1e-10 * np.abs(found[3]).max():
            raise ProblemError(
                f"hamiltonian(x, p, m) is not convex in p: H_pp has the eigenvalue "
                f"{lowest:.3g}{at}. A player's best drift -H_p is defined by a convex H."
            )
        return found[0]

    def check_limited(self, p: np.ndarray):
        """Refuse an H whose least value along a normal is not known to be found.

        It has to be strictly convex, and its second derivatives the same at this p and its double
        unless there is one dimension.
        """
        curvatures = []
        for factor in (1.0, 2.0):
            self.p.value[...] = factor * p
            curvatures += [*self.values.extremes(lambda *terms: (eigenvalues(terms[3]),))]
        one, other = curvatures
        alike = self.dim == 1 or np.allclose(one, other, rtol=1e-8, atol=0.0)
        if not (alike and min(one[0], other[0]) > 0):
            raise ProblemError(
                "A Wall(pushes=False) needs a Hamiltonian that is quadratic in p, as that of "
                "hamiltonians.quadratic, congestion or with_drift of these; in one dimension any "
                "that is strictly convex, such as hamiltonians.consumption."
            )

    def gradient_for(self, wanted: float) -> float | None:
        """The size of p at which players have this speed: see `units.gradient_for`."""
        direction = np.array([1.0, 0.7, 0.4])[: self.dim]

        def speed(size: float) -> float:
            self.p.value[...] = size * direction / np.linalg.norm(direction)
            return self.values.mean(lambda *terms: np.linalg.norm(terms[4], axis=2)) / 2

        self.p.value[...] = 0.0
        mobility = self.values.mean(lambda *terms: terms[3][..., :: self.dim + 1].mean(axis=2))
        guess = wanted / mobility if 0 < mobility < np.inf else 1.0
        return gradient_for(wanted, speed, guess)


def refuse_not_finite(problem, points: np.ndarray, moment: float):
    """Name what is not finite at these points of cells at a time in a uniform crowd. Collective.

    Raises:
        ProblemError: always.
    """
    mesh, x = problem.domain.mesh, problem.x
    t, crowding = fem.Constant(mesh, moment), Crowding(problem.populations)
    crowding.uniform()
    p = ufl.variable(fem.Constant(mesh, np.zeros(problem.domain.dim)))
    for own in problem.populations:
        m = crowding.seen_by(own, t)
        f, H = own.f(x, t, m), own.H(x, t, p, m)
        terms = {"running_cost(x, t, m)": f, "source(x, t)": own.s(x, t)}
        terms |= {"d/dm of running_cost(x, t, m)": crowding.slopes(f), "hamiltonian(x, p, m)": H}
        terms |= {"H_p of hamiltonian(x, p, m)": ufl.diff(H, p)}
        values = VertexValues(mesh, *terms.values(), points=points)
        for name, found in zip(terms, values.extremes(), strict=True):
            at = f" at t = {moment:g}, at some points of the quadrature"
            check_finite(found, own.label + name, at)
    raise ProblemError(
        "The equations are not finite where Newton starts, in a uniform crowd. Look for costs or a "
        "Hamiltonian that are infinite at some density, place or time."
    )
