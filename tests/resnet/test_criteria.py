"""What one solve says of layers, nodes and stability, beside solves that have more of them."""

import numpy as np
import pytest
from test_pontryagin import spirals

import ufl

import mfg_fem as mfg
from mfg_fem.resnet import Pontryagin, VelocityField, criteria, recommend

CRITICAL = 0.2307878165644395  # kappa: min over k = pi, 2 pi, .. of tan(W T) = -W / (D k^2)
EULER, MIDPOINT = mfg.Galerkin(1), mfg.Galerkin(1, "midpoint")


def drawn_together(kappa, steps, scheme):
    """The uniform state of players who like company, f = -kappa m."""
    game = mfg.MeanFieldGame(
        mfg.box(1.0, 16),
        horizon=1.0,
        diffusion=0.05,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: -kappa * m,
        terminal_cost=lambda x, m: 0.0,
        initial_density=lambda x: 1.0,
    )
    return mfg.solve(game, steps, scheme)


def moved(steps, scheme=None, **changes):
    """A crowd that is pulled along a line."""
    data = {
        "horizon": 1.0,
        "diffusion": 0.05,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: 0.5 * m,
        "terminal_cost": lambda x, m: 2 * (x[0] - 1.4) ** 2,
        "initial_density": lambda x: ufl.exp(-((x[0] - 0.6) ** 2) / 0.08),
    }
    return mfg.solve(mfg.MeanFieldGame(mfg.box(2.0, 48), **(data | changes)), steps, scheme)


@pytest.mark.parametrize(
    "scheme, thresholds",
    [(EULER, {4: 1.064, 8: 1.045, 16: 1.0266}), (MIDPOINT, {4: 1.0266, 8: 1.0078, 16: 1.0016})],
    ids=["euler", "midpoint"],
)
def test_players_who_like_company_are_unstable_from_the_threshold_on(scheme, thresholds):
    """The thresholds were found by the sign of the determinant of the whole Jacobian."""
    for steps, threshold in thresholds.items():
        found = [mfg.stability(drawn_together(kappa, steps, scheme)) for kappa in (0.15, 0.25)]
        estimates = [
            kappa / (1 - one.smallest) / CRITICAL
            for kappa, one in zip((0.15, 0.25), found, strict=True)
        ]
        assert estimates[0] == pytest.approx(estimates[1], rel=1e-9)  # kappa comes in linearly
        assert estimates[0] == pytest.approx(threshold, abs=1.5e-3)
        assert [one.stable for one in found] == [True, False]
        assert [one.negative for one in found] == [0, 1]
        assert found[0].products < 30


@pytest.mark.parametrize("scheme, steps", [(EULER, 64), (MIDPOINT, 16)], ids=str)
def test_steps_that_are_asked_for_are_those_that_are_needed(scheme, steps):
    tol = 0.06 if scheme is EULER else 0.005
    said = criteria(moved(steps, scheme), tol)
    assert not said.again and said.order == (1 if scheme is EULER else 2)
    drift, predicted, modified = mfg.hydrodynamics(moved(said.needed, scheme)).spreads()
    assert drift == pytest.approx(tol, rel=0.1)
    assert predicted == pytest.approx(drift, rel=0.03)
    assert modified < 0.03 * drift


def test_few_steps_are_said_to_tell_little():
    said = criteria(moved(8, EULER))
    assert said.again and said.needed > 8 and not said.met
    assert "solve so, and ask again" in str(said)


def test_the_cell_number_is_that_of_a_uniform_drift():
    """H = p^2 / 2 + p: people who pay for nothing drift with -1."""
    quadratic = mfg.hamiltonians.quadratic()
    solution = moved(
        2, mfg.Monotone(),
        hamiltonian=lambda x, p, m: quadratic(x, p, m) + p[0],
        running_cost=lambda x, t, m: 0.0,
        terminal_cost=lambda x, m: 0.0,
    )  # fmt: skip
    said = criteria(solution)
    assert said.cell_number == pytest.approx(2.0 / 48 / (2 * 0.05), rel=1e-6)
    assert "numerical diffusion / D" in str(said)
    assert criteria(drawn_together(0.1, 2, EULER)).cell_number < 1e-10


def test_what_has_no_energy_says_so():
    congested = moved(4, EULER, hamiltonian=lambda x, p, m: ufl.dot(p, p) / (2 * ufl.sqrt(1 + m)))
    said = criteria(congested)
    assert said.drift is None and said.needed is None
    assert "no Hamiltonian" in str(said)
    assert said.smallest == pytest.approx(1, abs=0.2)
    for wrong in (VelocityField.from_callable(lambda x, t: x, dim=1, horizon=1), None):
        with pytest.raises(mfg.ProblemError, match="takes a Solution or a PontryaginSolution"):
            criteria(wrong)
    with pytest.raises(mfg.ProblemError, match="stability takes a Solution"):
        mfg.stability(None)


def test_a_recommendation_tells_whether_the_solve_was_fine_enough():
    solution = moved(16, MIDPOINT)
    advice = recommend(solution, widths=(4, 8), tol=0.05)
    assert advice.criteria.met and advice.met
    assert "(ii)  energy drift" in str(advice) and "no conjugate point" in str(advice)
    other = recommend(VelocityField.of(solution), widths=(4, 8), solution=solution, tol=1e-4)
    assert other.criteria.needed > 16 and not other.criteria.met
    assert other.layers == advice.layers


def test_a_network_says_how_many_layers_it_needs_and_whether_there_is_a_limit():
    midpoint = Pontryagin(*spirals(), layers=8).solve()
    said = criteria(midpoint, 0.01)
    assert said.needed == pytest.approx(20, abs=1) and not said.met
    assert said.change == pytest.approx(0.5, abs=0.01)
    assert 0 < said.smallest < 1
    advice = recommend(midpoint, widths=(16, 32), margin=0.3)
    assert advice.met and advice.criteria.needed == 9
    with pytest.warns(mfg.SolutionWarning, match="ill posed"):
        rough = Pontryagin(*spirals(), layers=16, form="block", smoothness=0).solve()
    said = criteria(rough)
    assert said.change > 0.75 and not said.met
    assert "NO LIMIT of many layers" in str(said)
    np.testing.assert_array_less(0, said.needed)
