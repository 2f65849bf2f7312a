"""How markets depend on what a step sees, and how its equations depend on prices."""

import ufl
from ufl.algorithms import expand_derivatives

from mfg_fem.forms.drift import drift

ROWS, EXCESS = "rows", "excess"


def market_forms(step) -> dict[tuple, list[ufl.Form]]:
    """The forms of markets j on the space of one component, of these `StepForms`.

    By (EXCESS, j), (EXCESS, j, "price", j'), (EXCESS, j, c) and (ROWS, c, j): the excess demand of
    market j, its derivatives in the price of j' and in component c, and the derivatives of the rows
    of component c in the price of j. Those that vanish are not there. H_p sees what costs see, as
    in the Fokker-Planck rows.
    """
    problem, state = step.problem, step.state
    found: dict[tuple, list] = {}
    one = ufl.as_ufl(1.0)
    # UFL differentiates forms in coefficients: each price is one for a while.
    prices = {y: ufl.Coefficient(step.single) for y in state.paid.prices.values()}
    back = {symbol: constant for constant, symbol in prices.items()}

    def derivative(form, symbol, direction):
        form = expand_derivatives(ufl.derivative(form, symbol, step.dv))
        return None if form.empty() else ufl.replace(form, back | {step.dv: direction})

    seen = problem.crowd(state.seen(step.m), state.quantities)
    populations = zip(problem.populations, step.u, strict=True)
    drifts = [drift(own, state.t, u, seen) for own, u in populations]
    for j, name in enumerate(state.paid.prices):
        e = problem.excess(name, problem.x, state.t, step.m, drifts)
        form = ufl.replace(e * step.rule, prices)
        found[EXCESS, j] = [ufl.replace(form, back)]
        for other, symbol in enumerate(prices.values()):
            found[EXCESS, j, "price", other] = [derivative(form, symbol, one)]
        for c, symbol in enumerate(step.components):
            found[EXCESS, j, c] = [derivative(form, symbol, step.v)]
        for c, row in enumerate(step.rows):
            parts = [ufl.replace(part, prices) for part in row if part is not None]
            symbol = prices[state.paid.prices[name]]
            found[ROWS, c, j] = [derivative(part, symbol, one) for part in parts]
    return {key: forms for key, forms in found.items() if any(forms)}
