"""What docker/run shares with a command: asked of engines that only print what they are told."""

import csv
import hashlib
import os
import platform
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from ranks import ROOT, serial_only

pytestmark = [
    serial_only,
    pytest.mark.skipif(shutil.which("bash") is None, reason="docker/run is a bash script"),
]
# Answers to what docker/run asks first; what is to be run is left in a file.
ENGINE = """#!/bin/sh
case $1 in
    ps | image | info) exit ;;
    --version) echo "Docker version 27" && exit ;;
esac
printf '%s\\0' "$@" >"$TOLD"
"""
ODD = "a b,c:d\"e'f\n"


class Machine:
    """A machine on which nothing but the engine is there."""

    def __init__(self, folder: Path):
        self.folder, self.told = folder, folder / "told"
        self.home, cache = folder / "home", folder / "cache" / "mfg_fem"
        for engine in ("docker", "bwrap"):
            file = folder / "bin" / engine
            file.parent.mkdir(exist_ok=True)
            file.write_text(ENGINE)
            file.chmod(0o755)
        lines = (ROOT / "docker" / "packages.txt").read_text().splitlines()
        packages = [line for line in (re.sub(r"\s*#.*", "", line) for line in lines) if line]
        name = hashlib.sha256(("\n".join(packages) + "\n").encode()).hexdigest()[:12]
        (cache / f"trixie-{platform.machine()}-{name}").mkdir(parents=True)
        self.home.mkdir()

    def run(self, way: str, script=ROOT / "docker" / "run", cwd=ROOT) -> list[str]:
        """What the engine is told."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MFG_FEM_")}
        environment = kept | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "TMPDIR": "/etc",
            "PWD": str(cwd),  # bash believes it where it is the same folder
            "TOLD": str(self.told),
            "MFG_FEM_ENV": way,
        }
        self.told.unlink(missing_ok=True)
        done = subprocess.run(
            [script, "a command", "of two words"],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        words = self.told.read_text().split("\0")[:-1]
        assert words[-2:] == ["a command", "of two words"]
        return words


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def mounts(words: list[str]) -> dict[str, str]:
    """Where what is mounted comes from."""
    found = {}
    for option, value, after in zip(words, words[1:], words[2:], strict=False):
        if option == "--mount":
            fields = dict(field.split("=", 1) for field in next(csv.reader([value])))
            assert fields.pop("type") == "bind"
            found[fields["target"]] = fields["source"]
        if option in ("--bind", "--ro-bind", "--ro-bind-try"):
            found[after] = value
    return found


WAYS = pytest.mark.parametrize("way", ["docker", "root"])


@WAYS
@pytest.mark.parametrize("cwd", ["/", "/etc", "/usr/bin", "/proc", "/var", "a link to /etc"])
def test_no_folder_of_the_system_is_shared(machine, way, cwd):
    if cwd == "a link to /etc":
        cwd = machine.folder / "link"
        cwd.symlink_to("/etc")
    if not Path(cwd).exists():
        pytest.skip(f"no {cwd} here")
    shared = mounts(machine.run(way, cwd=cwd))
    assert shared.get(str(cwd)) != str(cwd) or (way == "root" and cwd == "/proc")  # to read
    assert shared[str(ROOT)] == str(ROOT)


@WAYS
def test_the_folder_that_it_is_called_from_is_shared_whatever_its_name(machine, way):
    folder = machine.folder / ODD
    folder.mkdir()
    assert mounts(machine.run(way, cwd=folder))[str(folder)] == str(folder)


@WAYS
def test_it_may_be_called_by_links(machine, way):
    inner, outer = machine.folder / "inner", machine.folder / ODD / "outer"
    inner.symlink_to(ROOT / "docker" / "run")
    outer.parent.mkdir()
    outer.symlink_to("../inner")
    assert mounts(machine.run(way, script=outer))[str(ROOT)] == str(ROOT)


@WAYS
def test_a_repository_that_no_python_could_find_is_refused(machine, way):
    copy = machine.folder / "a:b"
    shutil.copytree(ROOT / "docker", copy / "docker")
    with pytest.raises(AssertionError, match="no folder with a colon in its name"):
        machine.run(way, script=copy / "docker" / "run")
    assert not machine.told.exists()


def test_what_is_no_folder_of_the_command_is_read_only(machine):
    words = machine.run("root")
    writable = {
        target
        for option, _, target in zip(words, words[1:], words[2:], strict=False)
        if option == "--bind"
    }
    (own,) = {path for path in writable if path.endswith(".cache")}
    assert writable - {own} == {"/tmp", str(machine.home), str(ROOT)}
    if os.geteuid() == 0:
        kept = {value for option, value in pairwise(words) if option == "--cap-add"}
        assert words[words.index("--cap-drop") + 1] == "ALL"
        assert kept == {"CAP_DAC_OVERRIDE", "CAP_SETGID"}
