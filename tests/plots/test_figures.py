"""Figures as values: where they are, into which axes they go, and that none stays open."""

from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from cases import evacuation
from ranks import run_on, serial_only

import mfg_fem as mfg
from mfg_fem.plots.style import title

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.animation import FuncAnimation  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

COMM = MPI.COMM_WORLD
ROOT = COMM.rank == 0
DRAW = {
    "density": mfg.plots.plot_density,
    "value": mfg.plots.plot_value,
    "exits": mfg.plots.plot_exits,
    "difference": lambda one, *a, **k: mfg.plots.plot_difference(one, one, *a, **k),
}


@pytest.fixture(scope="module")
def solutions():
    """One in each dimension."""
    return {dim: mfg.solve(evacuation(mfg.box((1.0,) * dim, 4), 0.1), 4) for dim in (1, 2, 3)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The same empty folder on every rank, where stray files would go too."""
    folder = COMM.bcast(tmp_path)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def no_window_opens():
    before = pyplot.get_fignums()
    yield
    assert pyplot.get_fignums() == before


def test_a_name_too_long_for_its_panel_has_a_line_of_its_own():
    ax = Figure((4, 2)).subplots(1, 2)[0]
    assert title(ax, "north", "t = 1 s", "") == "north,  t = 1 s"
    assert title(ax, "from the north side", "t = 1 s", "z = 2 m") == (
        "from the north side\nt = 1 s,  z = 2 m"
    )


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", DRAW)
def test_without_a_path_the_figure_is_on_rank_0_and_nothing_is_written(
    solutions, folder, name, dim
):
    figure = DRAW[name](solutions[dim])
    assert isinstance(figure, Figure) if ROOT else figure is None
    assert not list(folder.iterdir())


@serial_only
@pytest.mark.parametrize("name", DRAW)
def test_a_figure_keeps_its_style_until_it_is_saved(solutions, folder, name):
    with matplotlib.rc_context({"font.size": 20, "xtick.labelsize": 30}):  # no style of ours
        DRAW[name](solutions[2], folder / "now.png", dpi=60)
        DRAW[name](solutions[2]).savefig(folder / "later.png", dpi=60)
    assert (folder / "now.png").read_bytes() == (folder / "later.png").read_bytes()


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("name", DRAW)
def test_axes_of_the_users_stay_where_they_are(solutions, folder, name, dim):
    figure = Figure()
    mine, other = figure.subplots(1, 2)
    mine.plot([0, 1], [0, 1], label="kept")
    places = [ax.get_position(original=True).bounds for ax in (mine, other)]
    t = {} if name == "exits" else {"t": 0.5}
    found = DRAW[name](solutions[dim], "a.png", ax=mine if ROOT else None, dpi=50, **t)
    assert found is (figure if ROOT else None)
    COMM.Barrier()
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    assert figure.axes == [mine, other] and not other.has_data()
    assert places == [ax.get_position(original=True).bounds for ax in (mine, other)]
    if ROOT:
        assert "[" in mine.get_xlabel() and mine.lines[0].get_label() == "kept"


def test_times_may_have_axes_each_also_in_a_subfigure(solutions):
    figure = Figure()
    _, part = figure.subfigures(1, 2)
    axes = part.subplots(2, 2)
    found = mfg.plots.plot_density(solutions[2], ax=axes if ROOT else None, t=[0, 0.25, 0.5, 1])
    assert found is (figure if ROOT else None)
    if ROOT:
        assert [ax.get_title("left") for ax in axes.flat] == [
            "t = 0 s", "t = 0.25 s", "t = 0.5 s", "t = 1 s"
        ]  # fmt: skip


def two():
    return [*Figure().subplots(1, 2)]


WRONG = {
    "fewer than times": (lambda s: mfg.plots.plot_density(s[2], ax=two()), "each of 5 times"),
    "two in 1D": (lambda s: mfg.plots.plot_density(s[1], ax=two()), "in 1D one takes all"),
    "capacity": (lambda s: mfg.plots.plot_exits(s[2], ax=two()[0], capacity=1), "a second one"),
    "a figure": (lambda s: mfg.plots.plot_value(s[2], ax=Figure()), "ax takes Axes .* not Figure"),
    "none": (lambda s: mfg.plots.plot_value(s[2], ax=[]), "not an empty list"),
    "two figures": (
        lambda s: mfg.plots.plot_value(s[2], ax=[two()[0], two()[1]], t=[0, 1]),
        "belong to one Figure",
    ),
    "film": (lambda s: mfg.plots.animate(s[2], ax=two()), "a film takes one"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_axes_that_do_not_fit_are_refused_on_every_rank(solutions, wrong):
    attempt, words = WRONG[wrong]
    with pytest.raises(mfg.ProblemError, match=words):
        attempt(solutions)


def test_a_film_without_a_path_has_its_frames(solutions, folder):
    film = mfg.plots.animate(solutions[2], every=2, dpi=40)
    assert isinstance(film, FuncAnimation) if ROOT else film is None
    if ROOT:
        assert film.to_jshtml().count("frames[") >= 3  # levels 0, 2, 4
    assert mfg.plots.animate(solutions[1], "a.gif", every=2, dpi=40) is None
    COMM.Barrier()
    assert [path.name for path in folder.iterdir()] == ["a.gif"]


def test_a_film_leaves_what_else_is_in_the_axes(solutions, folder):
    image = pytest.importorskip("PIL.Image")
    left, right = two()
    right.plot([0, 1], [0, 1], "g")
    before = len(right.get_children())
    mfg.plots.animate(solutions[2], "a.gif", ax=right, dpi=40)
    mfg.plots.animate(solutions[2], "b.gif", ax=right, every=4, dpi=40)
    if ROOT:
        with image.open("a.gif") as film:
            assert film.n_frames == 5
            frames = [np.array(film.convert("RGB"))]
            film.seek(4)
            frames.append(np.array(film.convert("RGB")))
        assert not np.array_equal(*frames)
        assert right.lines and len(right.texts) == 2  # a name of the exit for each film
        assert len(right.get_children()) < 2 * before + 20 and not left.has_data()


@serial_only
def test_figures_are_the_same_on_two_ranks():
    run_on(2, "-m", "pytest", "-q", "-p", "no:cacheprovider", Path(__file__))
