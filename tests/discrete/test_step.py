"""What a step sees of its two time levels."""

import numpy as np
import pytest
from cases import default

import mfg_fem as mfg
from mfg_fem.discrete.step import StepRule

DT = np.full(16, 0.1)
SHARP = mfg.Sharp().rule(DT, exits=True, decay=1.0)


def test_the_midpoint_rule_turns_into_euler_steps_before_exits_only():
    assert np.all(SHARP.c[-4:] == 0.0) and np.all(np.diff(SHARP.c) <= 0.0)
    assert 0.45 < SHARP.c[0] < 0.5
    assert np.all(mfg.Sharp().rule(DT, exits=False, decay=1.0).c == 0.5)
    assert not mfg.Sharp(sharpness=0.0).rule(DT, exits=False, decay=1.0).averages


def test_no_wave_changes_its_sign_in_a_step_that_is_very_long():
    c = mfg.Sharp().rule(DT, exits=False, decay=100.0).c
    np.testing.assert_allclose(1 - c * 100.0 * DT, 0.0, atol=1e-12)


def test_a_game_with_much_diffusion_is_no_harder_than_to_first_order():
    problem = default(mfg.box((1, 1), 8), diffusion=50.0)
    assert mfg.solve(problem, 16).iterations <= 5


def test_slopes_are_the_derivatives_of_the_density_that_is_seen():
    m = np.random.default_rng(0).uniform(0.05, 2.0, (2, 17, 40))
    m[0, 3] = 0.3 * m[0, 2]  # most of them leave
    before, after = SHARP.slopes(m)
    e = 1e-6
    for n in range(16):
        pair = m[:, n], m[:, n + 1]
        for k, slopes in enumerate((before, after)):
            up, down = (list(pair) for _ in range(2))
            up[k], down[k] = pair[k] + e, pair[k] - e
            change = SHARP.fields(n, pair, up)[1] - SHARP.fields(n, pair, down)[1]
            np.testing.assert_allclose(slopes[:, n], change / (2 * e), atol=1e-8)


def test_the_density_that_is_seen_vanishes_with_the_later_one_and_keeps_its_sign():
    later = np.array([-0.1, 0.0, 1e-9, 1e-3, 0.4, 0.5, 3.0])
    pair = np.ones(7), later
    _, seen = SHARP.fields(0, pair, pair)
    assert np.all(np.sign(seen) == np.sign(later))
    assert np.all(seen[2:4] < 5 * later[2:4])  # so that M / m is bounded
    c = SHARP.c[0]
    np.testing.assert_allclose(seen[5:], c + (1 - c) * later[5:])


def test_a_step_without_averages_sees_one_level_of_each():
    u, m = np.random.default_rng(1).random((2, 2, 5))
    U, M = StepRule.constant(3, 0.0).fields(1, u, m)
    assert np.array_equal(U, u[0]) and np.array_equal(M, m[1])


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, "sharp", True])
def test_a_sharpness_that_makes_no_sense_is_refused(value):
    with pytest.raises(mfg.ProblemError, match="sharpness"):
        mfg.Sharp(sharpness=value)


def test_without_sharpness_it_is_monotone():
    problem = default(mfg.box((1, 1), 8))
    one, other = (mfg.solve(problem, 6, y) for y in (mfg.Sharp(sharpness=0), mfg.Monotone()))
    assert one.cost == pytest.approx(other.cost, rel=1e-9)
    np.testing.assert_allclose(one.nodal_densities, other.nodal_densities, atol=1e-8)
