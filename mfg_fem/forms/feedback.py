"""How the crowd makes the quantities z that costs see, and what a planner answers for.

A `Quantity` is z = S L, with the vector L of int y v dx for each basis function v and a symmetric
operator S: of `smooth` a power of (Mass + r^2 K)^-1, of `total` the sum. It depends on what a step
sees of the densities. To a player z is data. A planner minds what he does to it: with the costs
A(m, z) of a step, his rows are the derivative of

    A(m, z) + sum lambda . L(m),     lambda = S dA/dz,

with z and lambda frozen: one more term of the functional. lambda is the shadow price of z. Newton
takes what the rows R depend on through both:

    dR = R_z dz + R_lambda dlambda,    dz = S L_m dm,    dlambda = S (A_zm dm + A_zu du + A_zz dz).
"""

from collections.abc import Callable, Sequence

import ufl
from dolfinx import fem

Forms = list[ufl.Form | None]
SHADOW, END = "shadow", "end shadow"


class Feedback:
    """The forms of quantities, on the space of one component.

    Attributes:
        forms: by ("load", q), ("load", q, c), ("shadow", q), ("shadow", q, c), ("shadow", q, "z",
            q'), ("row", c, q), ("row", c, "shadow", q): the vectors L and dA/dz, their derivatives
            in component c and in z of q', and those of row c in z and lambda of q. With END in the
            place of "shadow" those of the terminal costs. Those that vanish are not there.
        moving: whether Fokker-Planck rows see any quantity.
        answering: whether shadow prices depend on value functions.
    """

    def __init__(
        self,
        made: Sequence[fem.Function],
        shadows: Sequence[fem.Function],
        loads: Sequence[ufl.Form],
        pulls: dict[str, list[Forms]],
        rows: Sequence[Forms],
        components: Sequence[ufl.Coefficient],
        derivative: Callable[[Forms, ufl.Coefficient], Forms],
    ):
        found: dict[tuple, Forms] = {}
        for q, (z, load) in enumerate(zip(made, loads, strict=True)):
            found["load", q] = [load]
            for c, symbol in enumerate(components):
                found["load", q, c] = derivative([load], symbol)
                found["row", c, q] = derivative(rows[c], z)
        for q, shadow in enumerate(shadows):
            for c, row in enumerate(rows):
                found["row", c, "shadow", q] = derivative(row, shadow)
            for kind, pull in pulls.items():
                found[kind, q] = pull[q]
                for c, symbol in enumerate(components):
                    found[kind, q, c] = derivative(pull[q], symbol)
                for other, z in enumerate(made):
                    found[kind, q, "z", other] = derivative(pull[q], z)
        self.forms = {key: forms for key, forms in found.items() if any(forms)}
        self.moving = any(key[0] == "row" and key[1] % 2 for key in self.forms)
        values = [(c,) for c in range(0, len(components), 2)]
        self.answering = any(key[0] == SHADOW and key[2:3] in values for key in self.forms)
