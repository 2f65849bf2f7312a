"""The user's data as UFL: each callable is called once, with symbols for its arguments.

It returns an expression, in which the symbols are replaced by any arguments. So a callable that
would return something else at a second call does no harm, and what cannot be an expression, such as
float(t), is an error: a symbol has no value that could be taken by mistake.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

import basix.ufl
import ufl
from dolfinx import fem
from ffcx.naming import compute_signature
from ufl.algorithms import (
    expand_derivatives,
    extract_arguments,
    extract_coefficients,
    extract_type,
    strip_variables,
)
from ufl.algorithms.analysis import extract_constants
from ufl.corealg.traversal import traverse_unique_terminals
from ufl.domain import extract_domains

from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.problem.densities import Densities, spread
from mfg_fem.problem.interactions import Quantity
from mfg_fem.problem.market import Price, Prices
from mfg_fem.validate import is_number

COMPLEX = (ufl.classes.ComplexValue, ufl.classes.Real, ufl.classes.Imag, ufl.classes.Conj)
OF_FACETS = (ufl.classes.GeometricFacetQuantity, ufl.classes.Restricted)


@dataclass(frozen=True)
class InTime:
    """Data that depend on time, where a plain callable does not get t.

    Args:
        data: a callable x, t, ... -> UFL: (x, t) for a diffusion, a cost of leaving, a rate, a
            capacity or a flux, (x, t, p, m) for a Hamiltonian.
    """

    data: Callable

    def arguments(self, plain: str) -> str:
        """The arguments of the callable, where a plain one has these."""
        return plain if "t" in plain else plain[0] + "t" + plain[1:]


@dataclass(frozen=True)
class WithCrowd:
    """Data of a `Door` that see the crowd in front of it.

    Args:
        data: a callable (x, t, m) -> UFL.
    """

    data: Callable

    def arguments(self, plain: str) -> str:
        """The arguments of the callable."""
        return "xtm"


class _Symbol:
    """An argument without a value. UFL's own way to a number would not end."""

    def __float__(self):
        """Refuse; functions of UFL take the symbol itself."""
        raise TypeError("this must be a real number, not an argument of the callable")

    __int__ = __complex__ = __float__


class _Moment(_Symbol, ufl.Constant):
    """The time."""


class _Field(_Symbol, ufl.Coefficient):
    """The density, the drift, or the gradient of the value function."""

    def __getitem__(self, component):
        """A component, of which none is called by a name."""
        if isinstance(component, str):
            raise ProblemError(f"[{component!r}]: names are of Populations, and this is one crowd")
        return super().__getitem__(component)


def _is_made(y) -> TypeGuard[Quantity]:
    return isinstance(y, Quantity)


def _is_price(y) -> TypeGuard[Price]:
    return isinstance(y, Price)


class Data:
    """The data on a domain as expressions by name. Collective.

    Callables of one of several crowds, with these names, get the `Densities` of all for m. Prices
    that they see become the Constants of `prices`.
    """

    def __init__(self, domain, crowds: Sequence[str] = (), prices: Prices | None = None):
        self.comm, self.mesh = domain.comm, domain.mesh
        cell, shape, mesh = self.mesh.topology.cell_name(), (domain.dim,), self.mesh.ufl_domain()
        self.x, self.t = ufl.SpatialCoordinate(mesh), _Moment(mesh)
        elements = (basix.ufl.element("Lagrange", cell, 1, shape=s) for s in (None, shape))
        scalar, vector = (ufl.FunctionSpace(mesh, element) for element in elements)
        self.p = _Field(vector)
        self.m, self.v = (
            Densities(crowds, [_Field(space) for _ in crowds], symbol=y)
            if crowds
            else _Field(space)
            for y, space in (("m", scalar), ("v", vector))
        )
        self.prices = prices or Prices(self.mesh, ())
        self._stated: dict[str, tuple[ufl.core.expr.Expr, str, type | None]] = {}
        self.quantities: list[Quantity] = []  # that the data see, made of the symbols

    def state(self, name: str, value, arguments: str, shapes: tuple = ((),)):
        """Make the expression of this name. Collective.

        Args:
            name: of the data, in messages too.
            value: a callable of the arguments, an expression or a number; or one marked, as
                `InTime`, whose callable has others.
            arguments: names of the arguments, such as "xtm".
            shapes: the shapes that the expression may have.

        Raises:
            ProblemError: it cannot be built, or makes no sense; on every rank.
        """
        marker = None
        if isinstance(value, InTime | WithCrowd):
            marker, arguments, value = type(value), value.arguments(arguments), value.data
        symbols = [getattr(self, argument) for argument in arguments]
        plain = name.rpartition("(")[0] if name.endswith(")") else name
        called = f"{plain}({', '.join(arguments)})"
        with together(self.comm, ProblemError, f"{called} could not be built"):
            expression = self._priced(name, as_data(value, self.mesh, *symbols))
            if expression.ufl_shape not in shapes:
                expected = " or ".join(map(str, shapes))
                raise ProblemError(f"its shape is {expression.ufl_shape}, expected {expected}")
            for node in extract_type(expand_derivatives(expression), ufl.classes.Grad):
                for symbol in {"m", "p", "v"} & {*arguments}:
                    if {*spread(getattr(self, symbol))} & {*extract_coefficients(node)}:
                        raise ProblemError(
                            f"it differentiates {symbol}; only the value of {symbol} at the same "
                            "point may enter"
                        )
            quantities = [y for y in traverse_unique_terminals(expression) if _is_made(y)]
            for quantity in quantities:
                self._check_operand(quantity.operand, arguments)
        alike_on_ranks(self.comm, name, expression)
        for quantity in quantities:
            alike_on_ranks(self.comm, name, quantity.operand)
        self.quantities += [y for y in quantities if y not in self.quantities]
        self._stated[name] = expression, arguments, marker

    def _priced(self, name: str, expression):
        """The expression with the Constants of the prices in it."""
        found = [y for y in traverse_unique_terminals(expression) if _is_price(y)]
        mapping = {price: self.prices.seen(price, name) for price in found}
        return ufl.replace(expression, mapping) if mapping else expression

    def _check_operand(self, operand, arguments: str):
        terminals = [*traverse_unique_terminals(operand)]
        if any(_is_made(y) for y in terminals):
            raise ProblemError("a smooth() or total() is within another one")
        if not any(y is m for y in terminals for m in spread(self.m)) or "m" not in arguments:
            raise ProblemError("smooth() and total() are of densities, where the callable gets m")
        if any(y is self.p for y in terminals):
            raise ProblemError("the operand of smooth() or total() sees p, which is one player's")
        if any(_is_price(y) for y in terminals):
            raise ProblemError("a price() is within smooth() or total(); multiply outside")
        if extract_type(expand_derivatives(operand), ufl.classes.Grad):
            raise ProblemError("the operand of smooth() or total() is differentiated in space")

    @property
    def terminals(self) -> list:
        """The Functions, Constants and geometry of this mesh in all expressions, each once."""
        kinds = (fem.Function, fem.Constant, ufl.classes.GeometricQuantity)
        expressions = [expression for expression, *_ in self._stated.values()]
        expressions += [quantity.operand for quantity in self.quantities]
        found = (y for e in expressions for y in traverse_unique_terminals(e))
        return [*dict.fromkeys(y for y in found if isinstance(y, kinds))]

    @property
    def digest(self) -> bytes:
        """Of all numbers that the expressions depend on and that may change, on this rank."""
        terminals = self.terminals
        arrays = [y.x.array for y in terminals if isinstance(y, fem.Function)]
        arrays += [y.value for y in terminals if isinstance(y, fem.Constant)]
        found = hashlib.sha256(self.mesh.geometry.x)
        for array in arrays:
            found.update(np.ascontiguousarray(array).data)
        return found.digest()

    def __call__(self, name: str, **arguments) -> ufl.core.expr.Expr:
        """The expression of this name with these arguments, of which it may not need all."""
        expression, names, _ = self._stated[name]
        mapping = self._mapping(names, (arguments[symbol] for symbol in names))
        made = arguments["m"].quantities if isinstance(arguments.get("m"), Densities) else {}
        for quantity in filter(_is_made, traverse_unique_terminals(expression)):
            if quantity not in made:
                raise ProblemError(
                    f"{name} sees smooth() or total() of the crowd, and here only data can be had "
                    "that see the density at the same point."
                )
            mapping[quantity] = made[quantity]
        mapping = {y: z for y, z in mapping.items() if y is not z}
        return ufl.replace(expression, mapping) if mapping else expression

    def operand(self, quantity: Quantity, **arguments) -> ufl.core.expr.Expr:
        """What a quantity is made of, with these arguments x, t and m."""
        return ufl.replace(quantity.operand, self._mapping("xtm", map(arguments.get, "xtm")))

    def _mapping(self, names: str, arguments: Iterable) -> dict:
        """Symbols of these names to what replaces them."""
        return {
            y: z
            for symbol, argument in zip(names, arguments, strict=True)
            for y, z in zip(spread(getattr(self, symbol)), spread(argument), strict=True)
        }

    @property
    def timed(self) -> list[str]:
        """Names of the data that depend on time."""
        return [name for name in self._stated if self.depends(name, "t")]

    def depends(self, name: str, argument: str) -> bool:
        """Whether the expression of this name depends on an argument, "t" or "m"."""
        symbols = spread(getattr(self, argument))
        terminals = traverse_unique_terminals(self._stated[name][0])
        return any(y is symbol for y in terminals for symbol in symbols)

    def replaced(self, name: str, mapping: dict):
        """What would state the same with terminals replaced: a callable, perhaps marked."""
        expression, names, marker = self._stated[name]

        def same(*arguments):
            found = mapping | self._mapping(names, arguments)
            made = filter(_is_made, traverse_unique_terminals(expression))
            found |= {y: y.of(ufl.replace(y.operand, found)) for y in made}
            return ufl.replace(expression, found)

        return marker(same) if marker else same


def as_data(value, mesh, *arguments) -> ufl.core.expr.Expr:
    """The expression that a callable returns, or that is given, if forms can contain it.

    A number becomes a Constant, so that a new value needs no new compilation.
    """
    # UFL's expressions and DOLFINx's Functions are callable too, but not of our arguments.
    if callable(value) and not isinstance(value, ufl.core.expr.Expr):
        try:
            value = value(*arguments)
        except TypeError as exc:
            if any(word in str(exc) for word in ("real number", "__float__", "ufunc")):
                raise ProblemError(f"{exc}; use functions of UFL, such as ufl.exp") from exc
            raise
    if value is None:
        raise ProblemError("it returns nothing; is a return missing?")
    if isinstance(value, bool | np.bool_ | ufl.classes.Condition):
        raise ProblemError(
            "it is true or false, and no number: write ufl.conditional(condition, 1.0, 0.0)"
        )
    if is_number(value):
        return fem.Constant(mesh, float(value))
    expression = ufl.as_ufl(value)
    if extract_arguments(expression):
        raise ProblemError("it contains a trial or test function; give data")
    if any(extract_type(expression, kind) for kind in COMPLEX):
        raise ProblemError("it contains complex numbers; all data are real")
    if any(extract_type(expression, kind) for kind in OF_FACETS):
        raise ProblemError("it contains what only facets have, such as their normal")
    for literal in extract_type(expression, ufl.constantvalue.RealValue):
        float(literal)  # raises OverflowError for too large an integer
    if any(domain != mesh.ufl_domain() for domain in extract_domains(expression)):
        raise ProblemError("it contains a Function or a coordinate of another mesh")
    return expression


def alike_on_ranks(comm, name: str, expression):
    """Refuse an expression, or a Constant in it, that differs between ranks. Collective."""
    if comm.size > 1:
        alike(comm, **{name: _text(expression)})


def _text(expression) -> str:
    """A text that is the same for the same expression and values of its Constants."""
    plain = strip_variables(expand_derivatives(expression))
    values = [c.value.tolist() for c in extract_constants(plain) if isinstance(c, fem.Constant)]
    if isinstance(plain, ufl.constantvalue.ConstantValue):
        return repr(plain)
    code = compute_signature([(plain, np.zeros((1, 1)))], "")[:8]
    return f"{values} in the expression {code}" if values else f"the expression {code}"
