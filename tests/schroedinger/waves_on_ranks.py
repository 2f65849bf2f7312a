"""A wave in a tube, its ground state, files: the numbers of any number of ranks."""

import tempfile
from pathlib import Path

from mpi4py import MPI

import numpy as np
from ranks import leave_numbers

import ufl

import mfg_fem as mfg

comm = MPI.COMM_WORLD
tube = mfg.box((6, 4), (12, 8), periodic=(True, False))


def potential(x, rho):
    return (x[1] - 2) ** 2 + ufl.cos(np.pi / 3 * x[0]) + 3 * rho


phi = mfg.ground_state(tube, hbar=0.7, potential=potential, zero=("bottom", "top"), degree=1)
found = {"mu": phi.chemical_potential, "E": phi.energy, "radius": phi.rms_radius}
found["steps"] = [phi.flow, phi.newton]
wave = mfg.NonlinearSchroedinger(
    tube,
    horizon=1.0,
    hbar=0.7,
    potential=lambda x, t, rho: potential(x, rho) + ufl.sin(t) * x[1],
    initial=lambda x: (phi.wave * ufl.cos(np.pi / 3 * x[0]), phi.wave * ufl.sin(np.pi / 3 * x[0])),
    zero=("bottom", "top"),
)
folder = comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None)
for scheme in (mfg.Relaxation(1), mfg.DelfourFortinPayre(1)):
    path, name = Path(folder, "wave.npz"), type(scheme).__name__
    solution = mfg.solve(wave, 6, scheme, checkpoint=path)
    again = mfg.WaveSolution.load(path, wave)
    largest = np.abs(again.waves - solution.waves).max(initial=0.0)
    found[f"{name} loaded"] = comm.allreduce(float(largest), MPI.MAX)
    for quantity in ("mass", "energy", "modified_energy", "chemical_potential"):
        found[f"{name} {quantity}"] = getattr(solution, quantity).tolist()
    found[f"{name} mean"] = solution.mean_position[:, 1].tolist()
    density = comm.allreduce(float(np.sum(solution.nodal_densities[-1] ** 2)))
    found[f"{name} density"] = density
    comm.Barrier()
    if comm.rank == 0:
        path.unlink()
    comm.Barrier()
if comm.rank == 0:
    Path(folder).rmdir()
leave_numbers(found)
