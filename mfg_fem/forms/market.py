"""How markets depend on what a step sees, and how its equations depend on prices."""

import ufl

from mfg_fem.forms.derivatives import derivatives
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

    def slopes(forms, symbol, direction):
        found = derivatives(forms, symbol, step.dv)
        return [form and ufl.replace(form, back | {step.dv: direction}) for form in found]

    seen = problem.crowd(state.seen(step.m), state.quantities)
    populations = zip(problem.populations, step.u, strict=True)
    drifts = [drift(own, state.t, u, seen) for own, u in populations]
    for j, name in enumerate(state.paid.prices):
        e = problem.excess(name, problem.x, state.t, step.m, drifts)
        forms = [ufl.replace(e * step.rule, prices)]
        found[EXCESS, j] = [ufl.replace(form, back) for form in forms]
        for other, symbol in enumerate(prices.values()):
            found[EXCESS, j, "price", other] = slopes(forms, symbol, one)
        for c, symbol in enumerate(step.components):
            found[EXCESS, j, c] = slopes(forms, symbol, step.v)
        for c, row in enumerate(step.rows):
            parts = [part and ufl.replace(part, prices) for part in row]
            found[ROWS, c, j] = slopes(parts, prices[state.paid.prices[name]], one)
    return {key: forms for key, forms in found.items() if any(forms)}
