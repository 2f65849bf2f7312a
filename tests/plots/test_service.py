"""Maps of the level of service, and of the time above a density."""

from mpi4py import MPI

import numpy as np
import pytest
from cases import evacuation
from ranks import serial_only

import mfg_fem as mfg
from mfg_fem import crowd

matplotlib = pytest.importorskip("matplotlib")
ROOT = MPI.COMM_WORLD.rank == 0


@pytest.fixture(scope="module")
def solution():
    return mfg.solve(evacuation(mfg.box((1, 1), 6), 0.1, population=2), 4)


def words(figure):
    """The lines of the legend."""
    (legend,) = figure.legends or [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("walkway", ["A: up to 0.31", "C: up to 0.72", "E: up to 2.17", "F: above 2.17"]),
        ("queue", ["A: up to 0.83", "C: up to 1.54", "E: up to 5.26", "F: above 5.26"]),
        ([1, 2], ["A: up to 1.00", "B: up to 2.00", "C: above 2.00"]),
    ],
    ids=["walkway", "queue", "limits"],
)
def test_the_legend_has_the_letters_and_their_limits(solution, service, said):
    figure = mfg.plots.plot_service(solution, t=0, service=service)
    if ROOT:
        assert set(said) <= {*words(figure)}


@serial_only
def test_the_colour_of_a_place_is_that_of_its_level(solution):
    figure = mfg.plots.plot_service(solution, t=0, service=[0.5, 1.5])
    if ROOT:
        from matplotlib.contour import ContourSet

        (found,) = (y for y in figure.axes[0].collections if isinstance(y, ContourSet))
        m, x = solution.nodal_densities[0], solution.coordinates
        for limits, path in zip(((-1, 0.5), (0.5, 1.5), (1.5, 9)), found.get_paths(), strict=True):
            there = (m > limits[0] + 1e-6) & (m < limits[1] - 1e-6)
            assert there.any() and path.contains_points(x[there], radius=0.01).all()


@pytest.mark.parametrize("dim", [2, 3])
def test_pictures_in_axes_of_the_users(dim):
    one = mfg.solve(evacuation(mfg.box((1,) * dim, 3), 0.1), 2)
    if ROOT:
        from matplotlib.figure import Figure
    axes = Figure().subplots(1, 2) if ROOT else None
    service = [0.5, 1.5]
    found = mfg.plots.plot_service(one, ax=axes, t=[0, 1], service=service)
    other = mfg.plots.plot_time_above(one, 0.5, ax=axes[0] if ROOT else None)
    if ROOT:
        assert found is other is axes[0].figure and len(words(found)) == 3


def test_crowds_are_drawn_together():
    delay = crowd.UniformDelay(0.1, 0.5)
    game = evacuation(mfg.box((1, 1), 4), 0.1, population=2)
    solution = mfg.solve(crowd.with_premovement(game, delay), 2)
    figures = mfg.plots.plot_service(solution, t=0), mfg.plots.plot_exits(solution)
    if ROOT:
        assert [text.get_text() for text in figures[0].axes[0].texts] == ["right"]
        gone = figures[1].axes[0].lines[0].get_ydata()
        np.testing.assert_allclose(gone, crowd.gone(solution)["right"])


def test_maps_refuse_what_they_cannot_draw(solution):
    line = mfg.solve(evacuation(mfg.box(1, 4), 0.1), 2)
    with pytest.raises(mfg.ProblemError, match="is a line"):
        mfg.plots.plot_service(line)
    with pytest.raises(mfg.ProblemError, match="density must be"):
        mfg.plots.plot_time_above(solution, -1)
    with pytest.raises(mfg.ProblemError, match="Pictures are of a Solution"):
        mfg.plots.plot_service(solution.problem)
