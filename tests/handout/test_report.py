"""The report in a folder: what is in it, that it is whole, and what is refused."""

import csv
import io
import json
import re
from base64 import b64decode
from html.parser import HTMLParser

from mpi4py import MPI

import numpy as np
import pytest
from cases import evacuation
from ranks import leave_numbers, numbers_on, serial_only

import mfg_fem as mfg

pytest.importorskip("matplotlib")
COMM = MPI.COMM_WORLD
ASKED = {"lines": {"middle": ((0.5, 0), (0.5, 1))}, "rooms": {"<left>": lambda x: x[0] < 0.5}}


def solved():
    return mfg.solve(evacuation(mfg.box((1, 1), 6), 0.1, population=10), 4)


@pytest.fixture(scope="module")
def solution():
    return solved()


@pytest.fixture
def folder(tmp_path):
    return COMM.bcast(tmp_path) / "report"


def columns(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_report_has_the_numbers_of_the_solution(solution, folder):
    numbers = mfg.write_report(solution, folder, title="A <hall>", crowded=1, **ASKED)
    assert sorted(path.name for path in folder.iterdir()) == [
        "doors.csv", "lines.csv", "numbers.json", "people.csv", "report.html"
    ]  # fmt: skip
    assert json.loads((folder / "numbers.json").read_text()) == numbers
    gone = solution.gone["right"]
    assert numbers["doors"]["right"]["people"] == gone[-1]
    assert numbers["doors"]["right"]["width [m]"] == pytest.approx(1.0)
    assert numbers["people"]["inside at the end"] == solution.masses[-1]
    assert numbers["solver"]["converged"] and numbers["exit times"]["99 % out [s]"] is None
    people, doors = columns(folder / "people.csv"), columns(folder / "doors.csv")
    assert [float(row["inside [persons]"]) for row in people] == pytest.approx(solution.masses)
    assert float(people[0]["in <left> [persons]"]) == pytest.approx(5.0, rel=0.1)
    assert doors[0]["right: flow [persons/s]"] == ""
    flow = [float(row["right: flow [persons/s]"]) for row in doors[1:]]
    assert flow == pytest.approx(np.diff(gone) / np.diff(solution.times))


def test_the_page_has_pictures_in_it_and_escapes_what_users_write(solution, folder):
    mfg.write_report(solution, folder, title="A <hall> & $more", **ASKED)
    page = (folder / "report.html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 5
    assert all(b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert "<h1>A &lt;hall&gt; &amp; $more</h1>" in page and "<left>" not in page
    assert "mass balance" in page and 'src="http' not in page


class Page(HTMLParser):
    """The words of each row of a page, and the sources of its pictures."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.pictures = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

    def handle_data(self, data):
        if self.rows:
            self.rows[-1].append(data.strip())


@serial_only
def test_the_page_the_tables_and_the_numbers_say_the_same(solution, folder):
    image = pytest.importorskip("PIL.Image")
    numbers = mfg.write_report(solution, folder, **ASKED)
    page = Page((folder / "report.html").read_text())
    for source in page.pictures:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        with image.open(io.BytesIO(b64decode(data))) as picture:
            assert min(picture.size) > 200 and len(picture.convert("RGB").getcolors(10**6)) > 20
    shown = {row[0]: row[1] for row in page.rows if len(row) > 1}
    for name, value in (numbers["people"] | numbers["exit times"]).items():
        if value is None:
            assert shown[name] == "not before the horizon"
        else:
            assert float(shown[name]) == pytest.approx(value, rel=1e-3, abs=1e-12)
    assert "largest density [persons/m²]" in shown
    right = next(row for row in page.rows if row[0] == "right")
    assert float(right[1]) == pytest.approx(numbers["doors"]["right"]["people"], rel=1e-3)
    names = (folder / "doors.csv").read_text().partition("\n")[0].split(",")
    table = np.genfromtxt(folder / "doors.csv", delimiter=",", skip_header=1)
    assert names[:2] == ["time [s]", "right: count [persons]"]
    assert np.allclose(table[:, 0], solution.times, rtol=1e-7)
    assert np.allclose(table[:, 1], solution.gone["right"], rtol=1e-7)


def test_an_old_report_stays_where_the_new_one_fails(solution, folder):
    mfg.write_report(solution, folder, service=None)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(mfg.ProblemError, match=r"'far'.*lies outside"):
        mfg.write_report(solution, folder, lines={"far": ((3, 0), (3, 1))})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length": "ft"}, "lengths are in ft: give the densities"),
        ({"service": "road"}, "'walkway', 'queue' or densities"),
        ({"service": [2, 1]}, "increase"),
        ({"title": 3}, "title must be a text"),
        ({"crowded": -1}, "crowded must be"),
    ],
    ids=["feet", "service", "limits", "title", "crowded"],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(solution, folder, changes, said):
    with pytest.raises(mfg.ProblemError, match=said):
        mfg.write_report(solution, folder, **changes)
    assert not folder.exists()


def test_a_folder_that_is_a_file_is_refused(solution, folder):
    if COMM.rank == 0:
        folder.write_text("mine")
    COMM.Barrier()
    with pytest.raises(mfg.FileError, match="cannot be written"):
        mfg.write_report(solution, folder, service=None)
    assert folder.read_text() == "mine"


def test_reports_of_several_crowds_and_of_a_line(folder):
    game = evacuation(mfg.box(1, 8), 0.1, population=5)
    delay = mfg.crowd.UniformDelay(0.1, 0.5)
    solution = mfg.solve(mfg.crowd.with_premovement(game, delay), 8)
    numbers = mfg.write_report(solution, folder, length="km", time="h")
    first = columns(folder / "people.csv")[0]
    assert float(first["inside, waiting [persons]"]) == pytest.approx(5)
    out = sum(mfg.crowd.gone(solution).values())[-1]
    assert numbers["people"]["out at the end"] == pytest.approx(out)
    assert "largest density [persons/km]" in numbers


def written():
    """The numbers of a report, but for the time that it took."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        numbers = mfg.write_report(solved(), COMM.bcast(folder), **ASKED)
        COMM.Barrier()
    for name in ("wall time [seconds]", "largest defect of the mass balance [persons]"):
        del numbers["solver"][name]
    return numbers


def flat(found):
    """The numbers in nested dicts."""
    for value in found.values():
        if isinstance(value, dict):
            yield from flat(value)
        elif isinstance(value, float):
            yield value


@serial_only
def test_two_ranks_report_the_same():
    one, two = written(), numbers_on(2, __file__)
    np.testing.assert_allclose([*flat(two)], [*flat(one)], rtol=1e-6, atol=1e-9)


if __name__ == "__main__":
    leave_numbers(written())
