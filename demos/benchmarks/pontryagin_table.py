# # Networks by Pontryagin, beside a mean-field control and Adam; layers predicted and needed
#
# `--part spirals`: test accuracy on 10,000 fresh points and seconds of processor time, on spirals
# of one turn (1000 points) and on Lang and Witbrock's of three (194 points): `PontryaginClassifier`
# with blocks and with midpoints, `MeanFieldClassifier`, the same network by Adam (without and with
# noise added to its input; its stopping time by 2000 validation points), and scikit-learn's
# `MLPClassifier` of one hidden layer, Adam without layers that follow each other.
#
# `--part layers`: K*, the number of layers or time steps at which the energy drifts by tol, as
# predicted by a solve with K of them and by one more with the K* of that, and as needed: where
# solves with K, 2K, 4K, .. have that drift, between two of them by the power of their ratio.

import argparse
import sys
import time
import warnings
from pathlib import Path

from mpi4py import MPI

import numpy as np
from sklearn.neural_network import MLPClassifier

import ufl

import mfg_fem as mfg
from mfg_fem.resnet import (
    MeanFieldClassifier,
    Pontryagin,
    PontryaginClassifier,
    PontryaginSolution,
)

sys.path.append(str(Path(__file__).parents[1]))  # the demos
from classification import DATA, on_one_rank, train_by_adam

ALONE, SEEDS = MPI.COMM_SELF, (10, 11)
SIZES = {"spirals 1": (10, 16), "spirals 3": (16, 32)}
SMALL = {"spirals 1": 1e-3, "spirals 3": 1e-4}  # effort of Pontryagin's networks
FIELDS = {
    "spirals 1": dict(layers=10),
    "spirals 3": dict(
        layers=16, width=32, cells=80, max_it=600, blur=0.04,
        smoothing_length=0.13, effort=1e-4, regularisation=1e-8,
    ),
}  # fmt: skip


def plain_adam(neurons, seed):
    """Adam on one hidden layer, for 3000 epochs; its own rule stops at once on three turns."""
    return MLPClassifier(
        (neurons,), max_iter=3000, n_iter_no_change=3000, tol=0.0, random_state=seed
    )


def spirals():
    """Print the table of accuracies."""
    print("| data | method | accuracy % by seed | seconds |\n|---|---|---|---|")
    for name, (layers, width) in SIZES.items():
        make, found = DATA[name], {}
        for seed in SEEDS:
            train = make() if name == "spirals 3" else make(1000, seed)
            validation, test = make(2000, seed + 10_000), make(10_000, seed + 20_000)
            effort = {"effort": SMALL[name], "smoothness": SMALL[name] / 10}
            sizes = {"layers": layers, "width": width, "random_state": seed}
            ours = PontryaginClassifier(**sizes, **effort, max_it=600)
            nets = {
                "Pontryagin, blocks": ours,
                "Pontryagin, midpoints": PontryaginClassifier(**ours.get_params()),
                "mean field": MeanFieldClassifier(**FIELDS[name], random_state=seed),
                "MLPClassifier": plain_adam(layers * width, seed),
            }
            nets["Pontryagin, midpoints"].set_params(form="midpoint")
            for method, net in nets.items():
                began = time.process_time()
                net.fit(*train)
                seconds = time.process_time() - began
                found.setdefault(method, []).append((net.score(*test), seconds))
            for noise in (0.0, 0.1):
                began = time.process_time()
                adam = train_by_adam(train, validation, layers, width, noise=noise, seed=seed)
                right, seconds = adam.predict(test[0]) == test[1], time.process_time() - began
                method = "Adam, noise" if noise else "Adam"
                found.setdefault(method, []).append((np.mean(right), seconds))
        for method, rows in found.items():
            scores = ", ".join(f"{100 * score:.2f}" for score, _ in rows)
            print(f"| {name} | {method} | {scores} | {np.mean([s for _, s in rows]):.1f} |")


def fields():
    """Name -> tolerance, first number of steps, how often it is doubled, and the solve."""
    quadratic = mfg.hamiltonians.quadratic()
    line, square = mfg.box(2.0, 48, ALONE), mfg.box((2.0, 2.0), 16, ALONE)
    crowd = {
        "horizon": 1.0, "diffusion": 0.05, "hamiltonian": quadratic,
        "running_cost": lambda x, t, m: 0.5 * m,
        "terminal_cost": lambda x, m: 2 * (x[0] - 1.4) ** 2,
        "initial_density": lambda x: ufl.exp(-((x[0] - 0.6) ** 2) / 0.08),
    }  # fmt: skip
    wide = crowd | {
        "terminal_cost": lambda x, m: 2 * ((x[0] - 1.3) ** 2 + (x[1] - 1.2) ** 2),
        "initial_density": lambda x: ufl.exp(-((x[0] - 0.7) ** 2 + (x[1] - 0.8) ** 2) / 0.1),
    }
    jam = crowd | {"hamiltonian": lambda x, p, m: ufl.dot(p, p) / (2 * (1 + m) ** 0.75)}
    ends = {
        "horizon": 1.0, "diffusion": 0.2, "hamiltonian": quadratic,
        "running_cost": lambda x, t, m: 0.0,
        "initial_density": lambda x: ufl.exp(-((x[0] - 3) ** 2) / 0.5),
        "terminal_density": lambda x: ufl.exp(-((x[0] - 5) ** 2) / 0.32),
    }  # fmt: skip
    random = np.random.default_rng(0)
    radius, y = np.sqrt(random.uniform(0.05, 1, 150)), random.integers(0, 2, 150)
    angle = 1.5 * np.pi * radius + np.pi * y
    X = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def solves(problem, scheme):
        return lambda K: mfg.solve(problem, K, scheme)

    def trains(form):
        return lambda K: Pontryagin(X, y, layers=K, form=form, comm=ALONE).solve()

    midpoint, bridge = (
        mfg.Galerkin(1, "midpoint"),
        mfg.MeanFieldControl(mfg.box(8.0, 128, ALONE), **ends),
    )
    return {
        "game, Euler": (0.05, 16, 4, solves(mfg.MeanFieldGame(line, **crowd), mfg.Galerkin(1))),
        "game, midpoint": (0.003, 12, 2, solves(mfg.MeanFieldGame(line, **crowd), midpoint)),
        "control 2D, Euler": (
            0.08, 8, 4, solves(mfg.MeanFieldControl(square, **wide), mfg.Galerkin(1))
        ),
        "congestion control": (
            0.05, 16, 3, solves(mfg.MeanFieldControl(line, **jam), mfg.Galerkin(1))
        ),
        "bridge, Monotone": (0.05, 16, 3, solves(bridge, mfg.Monotone())),
        "network, blocks": (0.02, 16, 4, trains("block")),
        "network, midpoints": (0.002, 8, 4, trains("midpoint")),
    }  # fmt: skip


def layers():
    """Print the table of predicted and needed layers."""
    print("| field | tol | K | K* from K | K* from that many | needed |\n|---|---|---|---|---|---|")
    for name, (tol, K, doubled, solve) in fields().items():
        first, measured = said(solve(K), tol)
        again, _ = said(solve(first), tol)
        number, drifts = [K], [measured]
        while drifts[-1] > tol and len(number) <= doubled:
            number.append(2 * number[-1])
            drifts.append(said(solve(number[-1]), tol)[1])
        order = np.log(drifts[-2] / drifts[-1]) / np.log(2)
        needed = number[-1] * (drifts[-1] / tol) ** (1 / order)
        print(f"| {name} | {tol:g} | {K} | {first} | {again} | {needed:.0f} |", flush=True)


def said(solution, tol) -> tuple[int, float]:
    """K* by one solve, and the measured drift."""
    if isinstance(solution, PontryaginSolution):
        return solution.layers_for(tol), solution.drift
    order = 2 if "midpoint" in str(solution.scheme) else 1
    measured, predicted, _ = mfg.hydrodynamics(solution).spreads()
    return int(np.ceil(solution.steps * (predicted / tol) ** (1 / order))), measured


def main():
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description="Accuracy, and layers predicted and needed.")
    parser.add_argument("--part", choices=["spirals", "layers", "both"], default="both")
    part = parser.parse_args().part
    warnings.simplefilter("ignore")
    if part != "spirals":
        layers()
    if part != "layers":
        spirals()


if __name__ == "__main__":
    on_one_rank(main)
