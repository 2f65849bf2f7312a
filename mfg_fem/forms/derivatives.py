"""Derivatives and sums of lists of forms."""

from collections.abc import Iterable
from itertools import chain

import ufl
from ufl.algorithms import expand_derivatives


def derivatives(forms: Iterable[ufl.Form | None], symbol, direction) -> list[ufl.Form | None]:
    """The derivative of each form in the direction, None where it vanishes."""
    found = (form and expand_derivatives(ufl.derivative(form, symbol, direction)) for form in forms)
    return [None if form is None or form.empty() else form for form in found]


def merged(forms: Iterable[ufl.Form]) -> list[ufl.Form]:
    """Sum the forms of each quadrature rule: FFCx 0.9 may miscompile kernels that mix rules."""
    by_rule: dict[str, ufl.Form] = {}
    for integral in chain(*(form.integrals() for form in forms)):
        rule, form = str(integral.metadata()), ufl.Form([integral])
        by_rule[rule] = by_rule[rule] + form if rule in by_rule else form
    return list(by_rule.values())
