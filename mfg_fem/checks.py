"""Whether the data of a problem make sense: asked when it is stated, the same on every rank."""

from collections.abc import Callable, Mapping

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives, extract_coefficients, extract_type

from mfg_fem.boundary import Exit
from mfg_fem.errors import MeshError, ProblemError, together
from mfg_fem.sampling import VertexValues
from mfg_fem.torus import check_periodic

NUMBER = (int, float, np.number)


def check_arguments(problem):
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


def check_values(problem):
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

    density = VertexValues(mesh, m0)
    (found,) = density.extremes()
    _finite(found, "initial_density(x)")
    lowest, mass = found[0], density.integral()
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

    def measures(D):
        transposed = _matrices(D).transpose(0, 2, 1).reshape(D.shape)
        with np.errstate(invalid="ignore"):  # infinite ones are refused below
            return D, D - transposed, _eigenvalues(D)

    found, asymmetry, eigenvalues = VertexValues(mesh, D).extremes(measures)
    _finite(found, "diffusion")
    if not np.abs(asymmetry).max() <= 1e-12 * np.abs(found).max():
        raise ProblemError("diffusion must be a symmetric tensor.")
    smallest = eigenvalues[0]
    if not smallest > 0:
        raise ProblemError(
            f"diffusion must be positive; its smallest value (or eigenvalue) is {smallest:.3g}. "
            "For nearly deterministic players take a small positive number."
        )

    derivatives = {f"d/dm of {name}": ufl.diff(e, m) for name, e in costs.items() if "m)" in name}
    all_costs = costs | derivatives
    values = VertexValues(mesh, *all_costs.values())
    for moment in (0.0, problem.horizon):
        t.value = moment
        for name, found in zip(all_costs, values.extremes(), strict=True):
            _finite(found, name, f" at t = {moment:g} with m = the initial density")
    _check_hamiltonian(mesh, H, p, m)
    check_periodic(problem)


def _pointwise(problem) -> ufl.core.expr.Expr:
    """The terminal cost, unless it differentiates the density."""
    m = fem.Function(fem.functionspace(problem.domain.mesh, ("Lagrange", 1)))
    cost = expand_derivatives(problem.g(problem.x, m))
    if any(m in extract_coefficients(node) for node in extract_type(cost, ufl.classes.Grad)):
        raise ProblemError("it differentiates m; only the value of m at the same point may enter")
    return cost


def _check_hamiltonian(mesh, H, p, m):
    """H, H_p, H_pp, H_m finite and H_pp >= 0 for p = 0 and some random p of several sizes."""
    (constant,), dim = p.ufl_operands[:1], mesh.geometry.dim
    H_p, H_m = ufl.diff(H, p), ufl.diff(H, m)
    values = VertexValues(mesh, H, H_p, H_m, ufl.diff(H_p, p))
    random = np.random.default_rng(0)
    gradients = [np.zeros(dim)]
    gradients += [size * random.standard_normal(dim) for size in (0.1, 1.0, 10.0)]
    for q in gradients:
        constant.value[...] = q
        at = f" at p = {np.round(q, 3).tolist()}"
        *found, eigenvalues = values.extremes(lambda *terms: (*terms, _eigenvalues(terms[-1])))
        for name, ends in zip(("", "_p", "_m", "_pp"), found, strict=True):
            _finite(ends, f"hamiltonian: H{name}", at)
        lowest = eigenvalues[0]
        if lowest < -1e-10 * np.abs(found[-1]).max():
            raise ProblemError(
                f"hamiltonian(x, p, m) is not convex in p: H_pp has the eigenvalue "
                f"{lowest:.3g}{at}. A player's best drift -H_p is defined by a convex H."
            )


def _matrices(values: np.ndarray) -> np.ndarray:
    size = round(values.shape[-1] ** 0.5)
    return values.reshape(-1, size, size)


def _eigenvalues(values: np.ndarray) -> np.ndarray:
    """Eigenvalues of the symmetric part of matrices."""
    M = _matrices(values)
    M = (M + M.transpose(0, 2, 1)) / 2
    diagonal = M[:, np.eye(M.shape[1], dtype=bool)]
    if np.isfinite(M).all() and np.count_nonzero(M) > np.count_nonzero(diagonal):
        return np.linalg.eigvalsh(M)
    return diagonal


def _finite(ends, name: str, where: str = ""):
    """Raise unless the least and the largest value are finite, as they are if all values are."""
    if not np.isfinite(ends).all():
        raise ProblemError(
            f"{name} is not finite (NaN or infinite) somewhere on the mesh{where}. "
            "Look for a division by zero, a logarithm or a root of zero."
        )
