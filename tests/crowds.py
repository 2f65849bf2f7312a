"""Two crowds who change from one into the other, pass doors, and see smooth() and total()."""

import ufl

import mfg_fem as mfg


def crowd(i: int = 0, **changes) -> mfg.Crowd:
    """A crowd that likes one end of the unit interval, or box."""
    data = {
        "diffusion": 0.1,
        "hamiltonian": lambda x, p, m: ufl.dot(p, p) / 2,
        "running_cost": lambda x, t, m: m.all / 2 + m["ab"[i]] + (x[0] - i) ** 2,
        "terminal_cost": lambda x, m: 0.5 * x[0] * (1 - 2 * i),
        "initial_density": lambda x: 1.2 + ufl.cos(ufl.pi * (x[0] - i)),
    }
    return mfg.Crowd(**(data | changes))


def two(domain: mfg.Domain, horizon: float | None = 1.0, *, a=None, b=None, **changes):
    """Crowds "a" and "b", with these changes of their data."""
    lasting = {} if horizon else {"terminal_cost": None, "initial_density": None}
    crowds = {"a": crowd(0, **(lasting | (a or {}))), "b": crowd(1, **(lasting | (b or {})))}
    return mfg.Populations(domain, horizon=horizon, crowds=crowds, **changes)


def sees(x, t, m):
    """A cost of the crowd around, and of the mean place of b."""
    return mfg.smooth(m.all, 0.2) + m["a"] + x[0] * mfg.total(m["b"] * x[0])


SEEING = {
    "running_cost": sees,
    "boundary": {"right": mfg.Door(capacity=0.4, cost=mfg.WithCrowd(lambda x, t, m: 0.1 * m.all))},
}
SWITCHING = {("a", "b"): lambda x, t, m: 1 + mfg.smooth(m["a"], 0.3), ("b", "a"): 0.5}


def everything(domain: mfg.Domain, **changes) -> mfg.Populations:
    """All of it at once."""
    leaving = {"boundary": {"left": mfg.Exit(0.2), "right": mfg.Door(rate=0.5)}}
    return two(domain, a=SEEING, b=leaving | {"population": 2.0}, switching=SWITCHING, **changes)
