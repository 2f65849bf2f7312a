"""What the players want: MeanFieldGame and MeanFieldControl, checked when they are built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mpi4py import MPI

import numpy as np

import basix
import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives, extract_coefficients, extract_type

from mfg_fem._compat import evaluate
from mfg_fem.assembly import pointwise
from mfg_fem.boundary import Exit
from mfg_fem.domain import Domain
from mfg_fem.errors import MeshError, ProblemError, require, together
from mfg_fem.torus import check_periodic

NUMBER = (int, float, np.number)


@dataclass(frozen=True, kw_only=True)
class _MeanField:
    """The data shared by games and controls. Costs are per player; all callables return UFL."""

    domain: Domain = field(kw_only=False)
    horizon: float
    diffusion: float | Callable
    hamiltonian: Callable
    running_cost: Callable
    terminal_cost: Callable
    initial_density: Callable
    population: float = 1.0
    boundary: Mapping[str, Exit] = field(default_factory=dict)
    source: Callable | None = None

    def __post_init__(self):
        """Check everything that can be known before a solve starts. Collective."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        _check_arguments(self)
        _check_values(self)

    # The callables as UFL. Each is called where it is needed, never inspected.

    @cached_property
    def x(self) -> ufl.SpatialCoordinate:
        """The space coordinate of the forms."""
        return ufl.SpatialCoordinate(self.domain.mesh)

    def D(self, x) -> ufl.core.expr.Expr:
        """Diffusion at x as a (d, d) tensor. The PDE diffusion: half the squared noise."""
        D = self._number_or_callable(self.diffusion, x)
        return D * ufl.Identity(self.domain.dim) if D.ufl_shape == () else D

    def H(self, x, p, m) -> ufl.core.expr.Expr:
        """Hamiltonian of one player who sees the density m."""
        return ufl.as_ufl(self.hamiltonian(x, p, m))

    def f(self, x, t, m) -> ufl.core.expr.Expr:
        """Running cost of one player."""
        return self._constant_or_ufl(self.running_cost(x, t, m))

    def g(self, x, m) -> ufl.core.expr.Expr:
        """Terminal cost of one player."""
        return self._constant_or_ufl(self.terminal_cost(x, m))

    def s(self, x, t) -> ufl.core.expr.Expr:
        """Players entering per unit of volume and time."""
        return ufl.zero() if self.source is None else self._constant_or_ufl(self.source(x, t))

    def m0(self, x) -> ufl.core.expr.Expr:
        """Initial density before it is scaled to the population."""
        return self._constant_or_ufl(self.initial_density(x))

    def exit_cost(self, condition: Exit, x) -> ufl.core.expr.Expr:
        """What a player who leaves there pays."""
        return self._number_or_callable(condition.cost, x)

    def seen(self, m, frozen):
        """The crowd in the costs while they are differentiated in m: see functional.py."""
        raise NotImplementedError

    def _constant_or_ufl(self, value) -> ufl.core.expr.Expr:
        # A number becomes a Constant: a new value must not compile a new kernel.
        if isinstance(value, NUMBER):
            return fem.Constant(self.domain.mesh, float(value))
        return ufl.as_ufl(value)

    def _number_or_callable(self, value, x) -> ufl.core.expr.Expr:
        return self._constant_or_ufl(value(x) if callable(value) else value)


@dataclass(frozen=True, kw_only=True)
class MeanFieldGame(_MeanField):
    """A Nash equilibrium of infinitely many players (Lasry-Lions 2007).

        -u_t - div(D grad u) + H(x, grad u, m) = f(x, t, m),      u(T) = g(x, m(T)),
         m_t - div(D grad m) - div(m H_p(x, grad u, m)) = s(x, t),  m(0) = m0,

    with u the value function (the cost still to come) and m the density of players. Every
    boundary reflects unless it is named in `boundary`.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh.
        horizon: the final time T.
        diffusion: D > 0, half the squared noise: a number, or x -> UFL, scalar or symmetric
            positive definite (d, d) tensor. Where it varies it acts in divergence form.
        hamiltonian: H(x, p, m), convex in p and twice differentiable; the drift is -H_p.
        running_cost: f(x, t, m), what a player pays per unit of time besides moving.
        terminal_cost: g(x, m), pointwise in m.
        initial_density: m0(x) >= 0, scaled so that its integral is `population`.
        population: total mass of m0: the number of players.
        boundary: name of a boundary -> Exit(...).
        source: s(x, t), players entering per unit of volume and time, or None.

    Raises:
        ProblemError: data that make no sense, on every rank alike.
        MeshError: a boundary name the mesh does not have.
    """

    def seen(self, m, frozen):
        """A player does not move the crowd: it stays frozen while differentiating."""
        return frozen


@dataclass(frozen=True, kw_only=True)
class MeanFieldControl(_MeanField):
    """One planner moves everybody (Bensoussan-Frehse-Yam 2013); arguments as MeanFieldGame.

    The planner minimises the total cost of the population, the integral of the per-player
    costs against m. The equations are those of a game in which every player also pays for the
    harm done to the others: f + m f_m, g + m g_m and H + m H_m stand in place of f, g and H.
    """

    def seen(self, m, frozen):
        """The planner moves the crowd: it is differentiated with m."""
        return m


def _check_arguments(problem: _MeanField):
    """Types and numbers, without evaluating a callable."""
    for name in ("horizon", "population"):
        value = getattr(problem, name)
        number = isinstance(value, NUMBER) and not isinstance(value, bool)
        if not number or not np.isfinite(value) or value <= 0:
            raise ProblemError(f"{name} must be a positive finite number, not {value!r}.")
    if not callable(problem.diffusion) and not isinstance(
        problem.diffusion, (*NUMBER, ufl.core.expr.Expr)
    ):
        raise ProblemError(
            f"diffusion must be a positive number or a callable x -> UFL, "
            f"not {type(problem.diffusion).__name__}."
        )
    signatures = {
        "hamiltonian": "(x, p, m)",
        "running_cost": "(x, t, m)",
        "terminal_cost": "(x, m)",
        "initial_density": "(x)",
    } | ({} if problem.source is None else {"source": "(x, t)"})
    for name, signature in signatures.items():
        if not callable(getattr(problem, name)):
            raise ProblemError(
                f"{name} must be a callable {signature} -> UFL or number, "
                f"not {getattr(problem, name)!r}. For a constant write lambda *_: value."
            )
    if not isinstance(problem.boundary, Mapping):
        raise ProblemError('boundary must be a dict such as {"exits": mfg.Exit(cost=0.0)}.')
    for name, condition in problem.boundary.items():
        facets = problem.domain.comm.allreduce(len(problem.domain.facets(name)), MPI.SUM)
        if facets == 0:
            raise MeshError(f"The boundary {name!r} has no facets in this mesh.")
        if not isinstance(condition, Exit):
            raise ProblemError(
                f"boundary[{name!r}] is {condition!r}; it must be an Exit. "
                "Boundaries that are not named reflect."
            )


def _check_values(problem: _MeanField):
    """Evaluate every callable on the mesh: finite, of the right sign and shape, convex."""
    domain, comm = problem.domain, problem.domain.comm
    gdim, mesh = domain.dim, domain.mesh
    t, mass_scale = fem.Constant(mesh, 0.0), fem.Constant(mesh, 1.0)
    p = ufl.variable(fem.Constant(mesh, np.zeros(gdim)))
    x = problem.x

    def build(name: str, shape: tuple, make: Callable):
        with together(comm, ProblemError, f"{name} could not be built"):
            expression = ufl.as_ufl(make())
            if expression.ufl_shape != shape:
                raise ProblemError(f"its shape is {expression.ufl_shape}, expected {shape}")
        return expression

    m0 = build("initial_density(x)", (), lambda: problem.m0(x))
    m = ufl.variable(mass_scale * m0)
    D = build("diffusion", (gdim, gdim), lambda: problem.D(x))
    build("terminal_cost(x, m)", (), lambda: _pointwise(problem))
    costs = {
        "running_cost(x, t, m)": build("running_cost(x, t, m)", (), lambda: problem.f(x, t, m)),
        "terminal_cost(x, m)": build("terminal_cost(x, m)", (), lambda: problem.g(x, m)),
        "source(x, t)": build("source(x, t)", (), lambda: problem.s(x, t)),
    }
    for name, condition in problem.boundary.items():
        key = f"boundary[{name!r}].cost"
        costs[key] = build(key, (), lambda c=condition: problem.exit_cost(c, x))
    H = build("hamiltonian(x, p, m)", (), lambda: problem.H(x, p, m))

    sample = _Sampler(mesh)
    (values,) = sample(m0)
    finite(comm, values, "initial_density(x)")
    lowest = comm.allreduce(values.min(initial=np.inf), MPI.MIN)
    mass = comm.allreduce(sample.integral(values), MPI.SUM)
    if lowest < 0:
        raise ProblemError(
            f"initial_density(x) is negative somewhere (minimum {lowest:.3g}); "
            "a density must be >= 0. Cut it off, e.g. ufl.max_value(m0, 0)."
        )
    if not mass > 0:
        raise ProblemError(
            "initial_density(x) vanishes on the whole mesh, so it cannot be scaled to the "
            f"population {problem.population:g}. Is the crowd inside the domain?"
        )
    mass_scale.value = problem.population / mass

    (values,) = sample(D)
    finite(comm, values, "diffusion")
    D_values = values.reshape(-1, gdim, gdim)
    asymmetry = np.abs(D_values - D_values.transpose(0, 2, 1)).max(initial=0.0)
    require(
        comm,
        asymmetry <= 1e-12 * np.abs(D_values).max(initial=0.0),
        "diffusion must be a symmetric tensor.",
    )
    smallest = np.linalg.eigvalsh(D_values).min(initial=np.inf)
    smallest = comm.allreduce(smallest, MPI.MIN)
    if not smallest > 0:
        raise ProblemError(
            f"diffusion must be positive; its smallest value (or eigenvalue) is {smallest:.3g}. "
            "For nearly deterministic players take a small positive number."
        )

    derivatives = {f"d/dm of {name}": ufl.diff(e, m) for name, e in costs.items() if "m)" in name}
    for moment in (0.0, problem.horizon):
        t.value = moment
        names = list(costs | derivatives)
        for name, values in zip(names, sample(*(costs | derivatives).values()), strict=True):
            finite(comm, values, name, f" at t = {moment:g} with m = the initial density")
    _check_hamiltonian(problem, sample, H, p, m)
    check_periodic(problem, sample)


def _pointwise(problem: _MeanField) -> ufl.core.expr.Expr:
    """The terminal cost, unless it differentiates the density."""
    m = fem.Function(fem.functionspace(problem.domain.mesh, ("Lagrange", 1)))
    cost = expand_derivatives(problem.g(problem.x, m))
    if any(m in extract_coefficients(node) for node in extract_type(cost, ufl.classes.Grad)):
        raise ProblemError("it differentiates m; only the value of m at the same point may enter")
    return cost


def _check_hamiltonian(problem, sample, H, p, m):
    """H, H_p, H_pp, H_m finite and H_pp >= 0 for p = 0 and some random p of several sizes."""
    comm = problem.domain.comm
    constant = p.ufl_operands[0]
    terms = (H, ufl.diff(H, p), ufl.diff(ufl.diff(H, p), p), ufl.diff(H, m))
    random = np.random.default_rng(0)
    gradients = [np.zeros(problem.domain.dim)]
    gradients += [size * random.standard_normal(problem.domain.dim) for size in (0.1, 1.0, 10.0)]
    for q in gradients:
        constant.value[...] = q
        at = f" at p = {np.round(q, 3).tolist()}"
        evaluations = sample(*terms)
        for name, values in zip(("", "_p", "_pp", "_m"), evaluations, strict=True):
            finite(comm, values, f"hamiltonian: H{name}", at)
        H_pp = evaluations[2].reshape(-1, len(q), len(q))
        H_pp = (H_pp + H_pp.transpose(0, 2, 1)) / 2
        size = comm.allreduce(np.abs(H_pp).max(initial=0.0), MPI.MAX)
        lowest = comm.allreduce(np.linalg.eigvalsh(H_pp).min(initial=np.inf), MPI.MIN)
        if lowest < -1e-10 * size:
            raise ProblemError(
                f"hamiltonian(x, p, m) is not convex in p: H_pp has the eigenvalue "
                f"{lowest:.3g}{at}. A player's best drift -H_p is defined by a convex H."
            )


def finite(comm, values: np.ndarray, name: str, where: str = ""):
    """Raise unless every value on every rank is finite. Collective."""
    require(
        comm,
        np.isfinite(values).all(),
        f"{name} is not finite (NaN or infinite) somewhere on the mesh{where}. "
        "Look for a division by zero, a logarithm or a root of zero.",
    )


class _Sampler:
    """Evaluates UFL expressions at the vertices of every cell of this rank."""

    def __init__(self, mesh):
        tdim = mesh.topology.dim
        self.mesh = mesh
        self.cells = np.arange(mesh.topology.index_map(tdim).size_local, dtype=np.int32)
        cell = getattr(basix.CellType, mesh.topology.cell_name())
        self.points = basix.geometry(cell)
        one = fem.functionspace(mesh, ("DG", 0))
        volumes = fem.assemble_vector(fem.form(ufl.TestFunction(one) * ufl.dx)).array
        volumes = volumes[: len(self.cells)]
        self.weights = np.repeat(volumes / len(self.points), len(self.points))

    def __call__(self, *terms) -> list[np.ndarray]:
        """Values of each term, shape (cells * vertices, size of the term)."""
        flat = [c for e in terms for c in (_components(e))]
        # The coordinate is there for terms that are plain numbers: FFCx needs a mesh.
        vector = ufl.as_vector([*flat, ufl.SpatialCoordinate(self.mesh)[0]])
        expression = pointwise(vector, self.points)
        values = evaluate(expression, self.mesh, self.cells).reshape(-1, len(vector))[:, :-1]
        ends = np.cumsum([len(_components(e)) for e in terms])
        return np.split(values, ends[:-1], axis=1)

    def integral(self, values: np.ndarray) -> float:
        """This rank's part of the integral of nodal values."""
        return float(self.weights @ values[:, 0])


def _components(expression) -> list:
    shape = expression.ufl_shape
    return [expression[i] for i in np.ndindex(*shape)] if shape else [expression]
