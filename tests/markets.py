"""Crowds who pay a price, with a horizon and without."""

import ufl

import mfg_fem as mfg


def storage(cells: int, horizon: float | None, *, supply: float = 0.3, planner=None, rates=True):
    """Two crowds of batteries that buy at one price, and change into each other.

    With a horizon all that is supplied is bought; without, the mean charge of all is 0.6.
    """
    price = mfg.price("power")
    ends = {
        "terminal_cost": lambda x, m: ufl.cos(ufl.pi * x[0]) / 8,
        "initial_density": lambda x: 1 + ufl.cos(ufl.pi * x[0]) / 2,
    }

    def crowd(i: int) -> mfg.Crowd:
        return mfg.Crowd(
            diffusion=0.05,
            discount=0.2,
            hamiltonian=lambda x, p, m: (p[0] + price) ** 2 / (2 + 0.4 * m.all),
            running_cost=lambda x, t, m: (x[0] - 0.3 * (1 + i)) ** 2 / 2 + m.all * (1 + i) / 4,
            **(ends if horizon else {}),
        )

    def bought(x, t, m, v):
        return m["a"] * v["a"][0] + m["b"] * v["b"][0] - supply * ufl.cos(2 * t)

    def charge(x, t, m, v):
        return m.all * (x[0] - 0.6)

    change = {("a", "b"): lambda x, t, m: 1 + price**2 + x[0] * m["b"], ("b", "a"): 2.0}
    return mfg.Populations(
        mfg.box(1.0, cells),
        horizon=horizon,
        planner=planner,
        crowds={"a": crowd(0), "b": crowd(1)},
        switching=change if rates else {},
        market={"power": bought if horizon else charge},
    )
