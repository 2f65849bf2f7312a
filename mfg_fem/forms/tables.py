"""Costly functions of x alone in an expression, replaced by tables of their values."""

from collections.abc import Callable

import ufl
from dolfinx import fem
from ufl.core.multiindex import MultiIndex
from ufl.corealg.traversal import traverse_unique_terminals, unique_pre_traversal

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise


class Tables:
    """Replaces the costly parts of expressions that depend on x alone by Functions.

    Their values are computed once instead of at each assembly, and shared by all expressions. They
    live in `space(k)`, which has k values at each quadrature point of the forms and nowhere else.
    """

    def __init__(self, space: Callable[[int], fem.FunctionSpace]):
        self.space = space
        self.known: dict[ufl.core.expr.Expr, ufl.core.expr.Expr] = {}

    def __call__(self, expression):
        """The expression with its largest known parts replaced."""
        parts: dict[ufl.core.expr.Expr, None] = {}  # an ordered set

        def note(part):
            parts[part] = None
            return part

        _with_known(expression, note)
        if not parts:
            return expression
        if new := [part for part in parts if part not in self.known]:
            values = fem.Function(self.space(len(new)))
            points = interpolation_points(values.function_space)
            values.interpolate(pointwise(ufl.as_vector(new), points))
            self.known |= {part: values[k] for k, part in enumerate(new)}
        return _with_known(expression, self.known.get)


def _with_known(e, replace: Callable):
    """The expression with `replace` applied to its largest known parts."""
    if e._ufl_is_terminal_ or isinstance(e, ufl.classes.Derivative):
        return e
    if _is_known(e):
        return replace(e)
    return e._ufl_expr_reconstruct_(*(_with_known(y, replace) for y in e.ufl_operands))


def _is_known(e) -> bool:
    """Whether e is a scalar that depends on x alone and contains a costly function."""
    if isinstance(e, ufl.classes.Condition) or e.ufl_shape or e.ufl_free_indices:
        return False
    known = (ufl.SpatialCoordinate, ufl.classes.ConstantValue, MultiIndex)
    costly = (ufl.classes.MathFunction, ufl.classes.Power)
    return all(isinstance(y, known) for y in traverse_unique_terminals(e)) and any(
        isinstance(y, costly) for y in unique_pre_traversal(e)
    )
