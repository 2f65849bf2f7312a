"""Several crowds whose data make no sense are refused, with the name of the crowd or the rate.

Run as a script on several ranks, this module leaves what each raised.
"""

import pytest
from cases import line
from crowds import crowd, two
from ranks import leave_numbers, numbers_on, raised, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.errors import MeshError, ProblemError

LINE = mfg.box(1.0, 4)


def data(**changes):
    return lambda: two(LINE, b=changes)


def costs(cost):
    return data(running_cost=cost)


def rates(rate, pair=("a", "b"), horizon=1.0, **changes):
    return lambda: two(LINE, horizon, switching={pair: rate}, **changes)


def crowds(value):
    return lambda: mfg.Populations(LINE, horizon=1.0, crowds=value)


def market(excess):
    priced = {"running_cost": lambda x, t, m: mfg.price("r") * x[0]}
    return lambda: two(LINE, b=priced, market={"r": excess})


WRONG = {
    "name": (costs(lambda x, t, m: m["c"]), "crowd 'b': running_cost.*m\\['c'\\].*'a', 'b'"),
    "sum": (costs(lambda x, t, m: m + 1), "crowd 'b': running_cost.*m\\['a'\\].*m.all"),
    "alone": (costs(lambda x, t, m: m), "crowd 'b': running_cost.*m\\['a'\\].*m.all"),
    "compared": (costs(lambda x, t, m: ufl.conditional(m < 1, 1, 0)), "crowd 'b'.*m.all"),
    "gradient": (costs(lambda x, t, m: ufl.grad(m["a"])[0]), "crowd 'b'.*differentiates m"),
    "H": (data(hamiltonian=lambda x, p, m: -ufl.dot(p, p)), "crowd 'b': hamiltonian.*convex"),
    "boundary": (data(boundary={"door": mfg.Exit()}), "crowd 'b': No boundary is named 'door'"),
    "nobody": (data(population=0.0), "crowd 'b': population"),
    "planned discounts": (
        lambda: two(LINE, b={"discount": 1.0}, planner="all"),
        "One planner.*one discount.*Crowd 'a' 0, Crowd 'b' 1",
    ),
    "no discount for ever": (
        rates(1.0, ("b", "a"), horizon=None, b={"discount": 1.0}),
        "costs count alike in Crowd 'a', which nobody leaves",
    ),
    "planner": (lambda: two(LINE, planner="both"), "planner.*'both'"),
    "no crowd": (crowds({"a": crowd(), "b": 3}), "crowds\\['b'\\] must be a mfg.Crowd"),
    "no name": (crowds({1: crowd()}), "called by a line of text.*not by 1"),
    "blank name": (crowds({"a ": crowd()}), "without blanks.*not by 'a '"),
    "no crowds": (crowds([crowd()]), "crowds must be a dict"),
    "no end": (data(terminal_cost=None), "crowd 'b': Give terminal_cost="),
    "no return": (costs(lambda x, t, m: None), "crowd 'b': running_cost.*a return"),
    "drifts": (market(lambda x, t, m, v: m["a"] * v[0]), "market.*v\\[0\\]: the crowds are"),
    "drift": (market(lambda x, t, m, v: m["a"] * v), "market.*write v\\['a'\\]"),
    "one crowd": (lambda: line(4, running_cost=lambda x, t, m: m["a"]), "this is one crowd"),
    "arguments": (rates(lambda x: 1.0), "switching.*\\(x, t, m\\) could not.*argument"),
    "negative rate": (rates(-1.0), "switching\\[\\('a', 'b'\\)\\].*>= 0"),
    "rate of m": (rates(lambda x, t, m: -m["a"]), "switching\\[\\('a', 'b'\\)\\] is negative"),
    "timed rate": (rates(lambda x, t, m: t, horizon=None), "switching.*depends on t"),
    "itself": (rates(1.0, ("a", "a")), "switching\\[\\('a', 'a'\\)\\]: .*another"),
    "stranger": (rates(1.0, ("a", "c")), "switching\\[\\('a', 'c'\\)\\]: .*'a', 'b'"),
    "planned rate": (
        rates(lambda x, t, m: mfg.total(m["a"]), planner="each"),
        "Rates that see smooth\\(\\) or total\\(\\)",
    ),
    "radius": (costs(lambda x, t, m: mfg.smooth(m["a"], -1)), "crowd 'b'.*smooth: radius"),
    "all smooth": (costs(lambda x, t, m: mfg.smooth(m, 1)), "crowd 'b'.*smooth\\(m\\).*m.all"),
    "steep": (
        costs(lambda x, t, m: mfg.smooth(ufl.grad(m["a"])[0], 1)),
        "crowd 'b'.*differentiated in space",
    ),
    "total of 1": (costs(lambda x, t, m: mfg.total(1.0)), "crowd 'b'.*total takes"),
    "total of x": (costs(lambda x, t, m: mfg.total(x[0])), "crowd 'b'.*are of densities"),
    "nested": (
        costs(lambda x, t, m: mfg.total(mfg.smooth(m["a"], 1))),
        "crowd 'b'.*within another one",
    ),
    "total of p": (
        data(hamiltonian=lambda x, p, m: ufl.dot(p, p) / 2 + mfg.total(p[0] * m["a"])),
        "crowd 'b': hamiltonian.*sees p",
    ),
    "smooth start": (
        data(initial_density=lambda x: mfg.smooth(1 + x[0], 1)),
        "crowd 'b': initial_density.*where the callable gets m",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_crowds_are_refused(what):
    attempt, words = WRONG[what]
    with pytest.raises((ProblemError, MeshError), match=f"(?s){words}"):
        attempt()


@serial_only
def test_wrong_crowds_are_refused_alike_on_two_ranks():
    for what, (one, other) in numbers_on(2, __file__).items():
        assert one == other and one.split(":")[0] in ("ProblemError", "MeshError"), what


if __name__ == "__main__":
    leave_numbers(raised({what: attempt for what, (attempt, _) in WRONG.items()}))
