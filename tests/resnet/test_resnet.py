"""From velocity fields to networks."""

import copy
import pickle
import subprocess
import sys

from mpi4py import MPI

import numpy as np
import pytest
from ranks import ROOT, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.flows.nodal_values import along_walls
from mfg_fem.mesh.locate import Replica, clip
from mfg_fem.resnet import (
    LeavesDomain,
    MissingPackage,
    ResNet,
    VelocityField,
    fit,
    margins,
    recommend,
)
from mfg_fem.resnet.neurons import Task, fit_neurons, normal_equations, project
from mfg_fem.resnet.polish import loss

B, SPEED, NOISE = 2.0, 0.5, 1.0  # the soliton of MATH.md 3.3


def soliton() -> VelocityField:
    def v(x, t):
        return SPEED - NOISE**2 * B * np.tanh(B * (x - SPEED * t))

    return VelocityField.from_callable(v, dim=1, horizon=1.0)


def soliton_samples(n: int = 1000) -> np.ndarray:
    return np.arctanh(2 * np.random.default_rng(0).random((n, 1)) - 1) / B


def rotation() -> VelocityField:
    """A turn with shear, which changes in time: affine in x."""

    def v(x, t):
        return np.stack([0.5 * x[:, 0] - 2 * x[:, 1], 2 * x[:, 0] + np.sin(t) * x[:, 1]], axis=1)

    return VelocityField.from_callable(v, dim=2, horizon=1.0)


def curved() -> VelocityField:
    def v(x, t):
        one = np.sin(2 * x[:, 1] + t) * np.exp(-(x[:, 0] ** 2)) - x[:, 0] / 2
        return np.stack([one, np.cos(2 * x[:, 0] - t) - x[:, 1] ** 3 / 4], axis=1)

    return VelocityField.from_callable(v, dim=2, horizon=1.0)


def potential() -> VelocityField:
    """The gradient of sin(2 x + t) cos(y) / 2."""

    def v(x, t):
        a = 2 * x[:, 0] + t
        return np.stack([np.cos(a) * np.cos(x[:, 1]), -np.sin(a) * np.sin(x[:, 1]) / 2], axis=1)

    return VelocityField.from_callable(v, dim=2, horizon=1.0)


def square(n: int = 500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 2))


def error(net: ResNet, field: VelocityField, samples: np.ndarray) -> float:
    exact = field.reference(samples, net.layers)[-1]
    return float(np.sqrt(np.mean(np.sum((net(samples) - exact) ** 2, axis=1))))


def some_net(form: str = "block", layers: int = 3, width: int = 4, dim: int = 2) -> ResNet:
    rng = np.random.default_rng(5)
    shapes = {"V": (dim, width), "W": (width, dim), "b": (width,), "A": (dim, dim), "c": (dim,)}
    names = "Ac" if form == "affine" else "VWbc"
    arrays = {name: rng.standard_normal((layers, *shapes[name])) for name in names}
    return ResNet(horizon=1.5, form=form, **arrays)


# Fields


def replica(dim: int, cells: int) -> Replica:
    from dolfinx import fem

    domain = mfg.box([2.0] * dim, cells, MPI.COMM_WORLD)
    return Replica(fem.functionspace(domain.mesh, ("Lagrange", 1)))


def test_a_nodal_field_interpolates_linear_velocities_exactly_and_outside_too():
    mesh = replica(2, 4)
    slope = np.array([[1.0, 2.0], [3.0, -1.0]])
    nodal = np.stack([mesh.x @ slope.T, 0 * mesh.x])
    field = VelocityField(mesh, [0.0, 0.5, 2.0], nodal)
    x = np.random.default_rng(0).uniform(0, 2, (50, 2))
    assert np.allclose(field(x, 0.2), x @ slope.T, atol=1e-13)
    assert np.allclose(field.jacobian(x, 0.2), slope, atol=1e-12)
    assert np.all(field(x, 0.5) == 0)
    assert np.isfinite(field(x + 10, 0.0)).all()
    assert field(np.empty((0, 2)), 0.0).shape == (0, 2)
    assert (field.dim, field.steps, field.horizon) == (2, 2, 2.0)


def still(**changes) -> VelocityField:
    """Nothing moves, on [0, 2]^2."""
    mesh = replica(2, 2)
    data = {"times": [0, 1], "nodal": np.zeros((1, *mesh.x.shape)), "start": np.ones(9)}
    data |= changes
    return VelocityField(mesh, data.pop("times"), data.pop("nodal"), **data)


def brute_force(mesh: Replica, points: np.ndarray) -> np.ndarray:
    """Whether any cell has each point."""
    inside = np.zeros(len(points), bool)
    first = mesh.x[mesh.cells[:, 0]]
    for some in np.array_split(np.arange(len(points)), 40):
        away = points[some, None] - first
        weights = np.einsum("cid,ncd->nci", mesh.gradients, away)
        weights[:, :, 0] += 1
        inside[some] = (weights.min(axis=2) >= -1e-9).any(axis=1)
    return inside


def test_points_behind_obstacles_are_found_in_their_cells():
    """Close to pillars, corners and walls, where a walk through the cells ends at a boundary."""
    from dolfinx import fem

    pytest.importorskip("gmsh")
    hall = mfg.read_mesh(ROOT / "meshes" / "hall.msh", MPI.COMM_WORLD)
    mesh, rng = Replica(fem.functionspace(hall.mesh, ("Lagrange", 1))), np.random.default_rng(0)
    cells, corners = np.nonzero(mesh.neighbours < 0)
    walls = mesh.x[np.unique(mesh.cells[cells, (corners + 1) % 3])]
    near = walls[rng.integers(len(walls), size=1500)] + 0.01 * rng.standard_normal((1500, 2))
    cell, weights, inside = mesh.locate(near)
    assert np.array_equal(inside, brute_force(mesh, near))
    assert 0.3 < inside.mean() < 0.7
    found = np.einsum("nc,ncd->nd", weights, mesh.x[mesh.cells[cell]])
    assert np.allclose(found, near, rtol=0, atol=1e-12)
    away = np.einsum("nc,ncd->nd", clip(weights), mesh.x[mesh.cells[cell]]) - near
    assert np.linalg.norm(away, axis=1).max() < 0.2  # who is outside gets a cell nearby


def test_the_flow_converges_to_the_reference():
    field, x = curved(), square(200)
    exact = field.reference(x, 4)
    gaps = [np.abs(field.flow(x, 4, substeps=s) - exact).max() for s in (32, 64)]
    assert gaps[1] < 0.55 * gaps[0] < 0.02
    finer = VelocityField.from_callable(field.v, dim=2, horizon=1.0, steps=1000)
    assert np.abs(finer.reference(x, 4) - exact).max() < 1e-4


def test_the_reference_of_a_discrete_field_is_its_euler_polygon():
    mesh = replica(2, 4)
    nodal = 0.2 * np.random.default_rng(0).standard_normal((4, *mesh.x.shape))
    field = VelocityField(mesh, np.linspace(0, 1, 5), nodal, discrete=True)
    x = np.random.default_rng(0).uniform(0.5, 1.5, (50, 2))
    polygon = field.flow(x)
    assert np.allclose(field.reference(x, 4), polygon, atol=1e-14)
    assert np.allclose(field.reference(x, 2), polygon[::2], atol=1e-14)
    assert np.allclose(field.reference(x, 8)[1::2], (polygon[1:] + polygon[:-1]) / 2, atol=1e-14)


def test_samples_follow_the_initial_density():
    mesh = replica(2, 6)
    nodal = np.zeros((1, *mesh.x.shape))
    field = VelocityField(mesh, [0, 1], nodal, start=mesh.x[:, 0])  # density x / 4 on [0, 2]^2
    x = field.sample(200_000, 0)
    assert np.allclose(x.mean(axis=0), [4 / 3, 1.0], atol=0.01)
    assert np.allclose((x[:, 0] ** 2).mean(), 2.0, atol=0.02)


# Fits


@pytest.mark.parametrize("noise", [0.0, NOISE])
def test_one_neuron_recovers_the_soliton(noise):
    net = fit(soliton(), soliton_samples(), layers=16, width=1, match="field", noise=noise)
    sign = np.sign(net.W[:, 0, 0])
    times = np.arange(16) / 16
    assert np.allclose(sign * net.W[:, 0, 0], B, rtol=0.01)
    assert np.allclose(sign * net.V[:, 0, 0], -(NOISE**2) * B, rtol=0.01)
    assert np.allclose(net.c[:, 0], SPEED, rtol=0.01)
    assert np.allclose(sign * net.b[:, 0], -B * SPEED * times, atol=0.02)


def test_one_neuron_follows_the_flow_of_the_soliton_at_any_depth():
    x = soliton_samples()
    for layers in (2, 32):
        assert error(fit(soliton(), x, layers=layers, width=1), soliton(), x) < 2e-3


def test_the_affine_form_is_exact_for_linear_quadratic_fields():
    net = fit(rotation(), square(), layers=5, form="affine")
    assert error(net, rotation(), square(seed=1)) < 1e-12
    assert net.width == 0


def test_neurons_are_accurate_for_linear_fields():
    net = fit(rotation(), square(), layers=8, width=2)
    assert error(net, rotation(), square(seed=1)) < 5e-3


def test_the_error_falls_with_the_width_on_samples_never_seen():
    fresh = square(1000, seed=1)
    found = [error(fit(curved(), square(), layers=8, width=m), curved(), fresh) for m in (2, 6, 16)]
    assert found[1] < 0.5 * found[0]
    assert found[2] < 0.3 * found[1]
    assert found[2] < 3e-3


def test_resampling_changes_the_number_of_layers_and_keeps_the_flow():
    net = fit(curved(), square(), layers=4, width=12)
    fine = net.resample(32)
    narrow = fine.resample(8, width=3)
    assert (fine.layers, fine.width, narrow.layers, narrow.width) == (32, 12, 8, 3)
    fresh = square(1000, seed=1)
    assert error(net, curved(), fresh) < 2e-2
    assert error(fine, curved(), fresh) < 1e-2


def test_leapfrog_follows_a_potential_flow():
    net = fit(potential(), square(), layers=8, width=12, form="leapfrog")
    assert error(net, potential(), square(1000, seed=1)) < 2e-2
    x = square(50)
    path = net.trajectory(x)
    assert np.allclose(path[3], 2 * path[2] - path[1] + net.dt**2 * net.field(2, path[2]))


def test_a_fit_is_reproducible():
    one, two = (fit(curved(), square(), layers=2, width=5, seed=3) for _ in range(2))
    assert all(np.array_equal(one.arrays[k], two.arrays[k]) for k in one.arrays)


def test_polish_makes_the_final_positions_better():
    rough = fit(curved(), square(), layers=4, width=3)
    polished = fit(curved(), square(), layers=4, width=3, polish=100)
    assert error(polished, curved(), square()) < 0.7 * error(rough, curved(), square())
    assert error(polished, curved(), square(1000, 1)) < error(rough, curved(), square(1000, 1))


def test_splitting_into_layers_of_one_neuron_stays_close():
    net = fit(curved(), square(), layers=64, width=4, ridge=1e-4)
    single = net.split()
    assert (single.layers, single.width) == (256, 1)
    assert np.abs(single(square()) - net(square())).max() < 0.1


# Derivatives


def test_the_gradient_of_variable_projection_is_exact():
    rng = np.random.default_rng(2)
    z = np.column_stack([rng.standard_normal((60, 2)), np.ones(60)])
    y, theta, way = (rng.standard_normal(shape) for shape in ((60, 2), (4, 3), (4, 3)))
    task = Task(z, y, ridge=1e-3)
    _, gradient = normal_equations(z, project(task, theta))
    h = 1e-5
    up, down = (project(task, theta + s * way).cost for s in (h, -h))
    assert gradient @ way.ravel() == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("form", ["block", "leapfrog", "affine"])
def test_the_reverse_pass_is_the_gradient(form):
    net, x, rng = some_net(form), square(20), np.random.default_rng(3)
    goal = rng.standard_normal(x.shape)
    _, gradient = loss(net, x, goal)
    for name, array in net.arrays.items():
        way, h = rng.standard_normal(array.shape), 1e-5
        up, down = (loss(net.with_arrays(**{name: array + s * way}), x, goal)[0] for s in (h, -h))
        assert np.sum(gradient[name] * way) == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("form", ["block", "leapfrog", "affine"])
def test_the_jacobian_of_the_network_is_its_derivative(form):
    net, x, h = some_net(form), square(20), 1e-6
    columns = [(net(x + h * e) - net(x - h * e)) / (2 * h) for e in np.eye(2)]
    assert np.allclose(net.jacobian(x), np.stack(columns, axis=2), rtol=1e-6, atol=1e-6)


# Noise


def test_noisy_inference_has_the_variance_of_its_noise():
    still = ResNet(horizon=2.0, form="affine", A=np.zeros((8, 1, 1)), c=np.zeros((8, 1)))
    out = still(np.zeros((100_000, 1)), noise=0.3, rng=1)
    assert out.var() == pytest.approx(0.3**2 * 2.0, rel=0.02)
    pulled = ResNet(horizon=2.0, form="affine", A=-np.ones((64, 1, 1)), c=np.zeros((64, 1)))
    out = pulled(np.zeros((100_000, 1)), noise=0.3, rng=1)
    r = (1 - 2.0 / 64) ** 2
    assert out.var() == pytest.approx(0.3**2 * (2.0 / 64) * (1 - r**64) / (1 - r), rel=0.02)
    assert np.array_equal(still(np.ones((3, 1)), 0.1, 7), still(np.ones((3, 1)), 0.1, 7))


# Files


@pytest.mark.parametrize("form", ["block", "leapfrog", "affine"])
def test_a_saved_network_is_the_same(form, tmp_path):
    pytest.importorskip("safetensors")
    net, x = some_net(form), square()
    net.save(tmp_path / "net.safetensors")
    back = ResNet.load(tmp_path / "net.safetensors")
    assert np.array_equal(back(x), net(x))
    assert (back.form, back.horizon) == (net.form, net.horizon)
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_what_is_not_a_network_is_refused_when_loading(tmp_path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    net, path = some_net(), tmp_path / "net.safetensors"
    net.save(path)
    data = path.read_bytes()
    for broken in (data[:100], b"", b"hello", data[:-8]):
        path.write_bytes(broken)
        with pytest.raises(mfg.FileError, match=r"net\.safetensors"):
            ResNet.load(path)
    path.write_bytes(numpy_format.save({"x": np.zeros(3)}))
    with pytest.raises(mfg.FileError, match="no network"):
        ResNet.load(path)
    with pytest.raises(mfg.FileError, match="missing"):
        ResNet.load(tmp_path / "missing")
    with pytest.raises(mfg.FileError, match="cannot be written"):
        net.save(path / "net")  # a file stands where its folder would


@pytest.mark.parametrize("form", ["block", "leapfrog", "affine"])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-12), ("float32", 1e-6)])
def test_torch_gives_the_same_outputs(form, dtype, accuracy):
    torch = pytest.importorskip("torch")
    net, x = some_net(form), square()
    module = net.to_torch(dtype)
    with torch.no_grad():
        out = module(torch.tensor(x, dtype=getattr(torch, dtype))).numpy()
    assert out.dtype == dtype
    assert np.abs(out - net(x)).max() <= accuracy * np.abs(net(x)).max()
    assert sum(p.numel() for p in module.parameters()) == sum(a.size for a in net.arrays.values())


@pytest.mark.parametrize("form", ["block", "leapfrog", "affine"])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-12), ("float32", 1e-6)])
def test_onnx_gives_the_same_outputs(form, dtype, accuracy, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net, x, path = some_net(form), square(), tmp_path / "net.onnx"
    net.to_onnx(path, dtype)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": x.astype(dtype)})
    assert np.abs(out - net(x)).max() <= accuracy * np.abs(net(x)).max()


@pytest.mark.parametrize("width", [1, 2, 4, 16])
@pytest.mark.parametrize("form", ["block", "leapfrog"])
def test_a_fitted_network_keeps_its_outputs_in_float32(form, width):
    torch = pytest.importorskip("torch")
    field, x = curved() if form == "block" else potential(), square()
    net = fit(field, x, layers=8, width=width, form=form)
    with torch.no_grad():
        out = net.to_torch("float32")(torch.tensor(x, dtype=torch.float32)).numpy()
    assert np.abs(out - net(x)).max() < 1e-6


@pytest.mark.parametrize("width", [1, 4, 16])
def test_a_fitted_network_keeps_its_outputs_in_float32_in_a_file(width, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    net, x, path = fit(curved(), square(), layers=8, width=width), square(), tmp_path / "net.onnx"
    net.to_onnx(path, "float32")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": x.astype("float32")})
    assert np.abs(out - net(x)).max() < 1e-6


def test_neurons_that_would_cancel_each_other_are_kept_small():
    net, free = (fit(curved(), square(), layers=8, width=4, ridge=r) for r in (1e-8, 0.0))
    heaviest, heavier = (np.abs(n.V).sum(axis=2).max() for n in (net, free))
    assert heaviest < 30 < heavier  # 24 for y of unit variance
    assert error(net, curved(), square()) < 1.5 * error(free, curved(), square())


def test_neurons_are_as_gentle_as_asked():
    """A jump is fitted by as steep a neuron as there may be, at the same place."""
    x = np.linspace(-1, 1, 400)[:, None]
    size, rng = np.std(x), np.random.default_rng(0)
    for steepest in (5.0, 20.0):
        fitted = fit_neurons(x, np.sign(x - 0.2), 1, rng, steepest=steepest)
        assert np.abs(fitted.W).max() * size == pytest.approx(steepest)
        assert -fitted.b / fitted.W[0] == pytest.approx(0.2, abs=0.01)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    for name in ("torch", "onnx", "safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    net = some_net()
    calls = {
        "torch": net.to_torch,
        "onnx": lambda: net.to_onnx(tmp_path / "x"),
        "safetensors": lambda: net.save(tmp_path / "x"),
    }
    for package, call in calls.items():
        with pytest.raises(MissingPackage, match=f"install {package}") as info:
            call()
        assert isinstance(info.value, mfg.MFGError)


def test_pickles_and_copies_work_and_lose_the_field():
    net, x = fit(curved(), square(100), layers=2, width=2), square()
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert np.array_equal(other(x), net(x))
        with pytest.raises(mfg.ProblemError, match="does not know its field"):
            other.resample(4)


# Report


@serial_only
def test_warnings_are_heard():
    """FFCx would hand them to logging, where nobody listens."""
    script = "import mfg_fem, warnings; warnings.warn('hear')"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert "UserWarning: hear" in run.stderr


def test_the_report_measures_what_it_says():
    net, x = fit(curved(), square(), layers=8, width=6), square(300, seed=1)
    head = (np.array([[1.0, -0.5]]), np.array([0.1]))
    facts = net.report(x, head=head)
    assert facts.rms[-1] == pytest.approx(error(net, curved(), x), rel=1e-12)
    assert facts.rms[0] == 0
    assert facts.quantiles[1.0] == facts.max[-1] == facts.errors.max()
    # Only first order in the error: true here with some room, as the errors are small.
    assert np.all(facts.errors <= 1.2 * facts.bound + 1e-12)
    exact = curved().reference(x, 8)[-1]
    agree = (exact @ head[0][0] + 0.1 > 0) == (net(x) @ head[0][0] + 0.1 > 0)
    assert facts.certified <= facts.agreeing <= agree.mean()
    assert facts.certified > 0.5
    assert 0 < facts.smallest_singular.min() < 1
    assert "certified" in str(facts)


def test_dt_lip_and_the_singular_values_are_those_of_a_known_layer():
    A = np.array([[0.0, -3.0], [1.0, 0.0]])
    net = ResNet(horizon=1.0, form="affine", A=A[None], c=np.zeros((1, 2)))
    facts = net.report(square(), field=rotation())
    assert facts.dt_lip == pytest.approx([3.0])
    singular = np.linalg.svd(np.eye(2) + A, compute_uv=False)
    assert facts.smallest_singular == pytest.approx([singular.min()])
    assert "from 1 on, layers may fold" in str(facts)


def test_layers_that_turn_over_are_reported():
    turned = ResNet(1.0, form="affine", A=-np.diag([3.0, 0.0])[None], c=np.zeros((1, 2)))
    facts = turned.report(square(), field=rotation())
    assert facts.folded == 1 and facts.field_folded == 0
    assert "layers fold at                100 %" in str(facts) and "steepest=5" in str(facts)
    mesh = replica(1, 8)
    field = VelocityField(mesh, [0, 1], -3 * (mesh.x - 1)[None], discrete=True)  # x -> 3 - 2 x
    facts = fit(field, np.linspace(0.6, 1.4, 50)[:, None], width=4).report()
    assert facts.folded == facts.field_folded == 1
    assert "more regularisation or more steps" in str(facts)


def test_steepness_of_neurons_can_be_bounded():
    x = square()
    size = np.sqrt(np.mean(np.sum((x - x.mean(axis=0)) ** 2, axis=1)))
    net = fit(curved(), x, layers=1, width=6, steepest=0.5)
    assert np.linalg.norm(net.W[0], axis=1).max() * size <= 0.5 + 1e-9


def test_margins_are_distances_to_the_boundary():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [-1.0, 2.0]])
    head = (np.array([[3.0, 4.0]]), np.array([-5.0]))
    assert margins(x, head) == pytest.approx([4.0, 1.0, 0.0])
    assert margins(x, head, [0, 0, 1]) == pytest.approx([-4.0, 1.0, 0.0])
    three = (np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]), np.zeros(3))

    def scores(points):
        return points @ three[0].T

    assert margins(x, scores) == pytest.approx(margins(x, three), abs=1e-6)


def test_the_recommended_network_keeps_to_the_rules():
    advice = recommend(curved(), square(600), margin=0.1, widths=(1, 4, 16))
    assert advice.met
    assert advice.layers >= advice.invertible_layers
    assert advice.width in (4, 16)
    assert advice.criteria is None  # a formula
    assert np.quantile(advice.net.report(square(500, 9)).errors, 0.95) < 0.1 / 3 * 1.2
    assert recommend(curved(), square(200), widths=(2, 8)).layers == advice.layers
    with pytest.warns(UserWarning, match="max_layers=4"):
        poor = recommend(curved(), square(200), margin=1e-6, widths=(1,), max_layers=4)
    assert not poor.met
    assert "NOT ENOUGH" in str(poor)


# Solutions


@pytest.fixture(scope="module")
def gathering() -> mfg.Solution:
    """A crowd that is carried across a square and squeezed."""
    gathering = mfg.MeanFieldControl(
        mfg.box([2.0, 2.0], 32, MPI.COMM_WORLD),
        horizon=1.0,
        diffusion=0.02,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.02 * m,
        terminal_cost=lambda x, m: 2 * ((x[0] - 1.3) ** 2 + (x[1] - 1.2) ** 2),
        initial_density=lambda x: ufl.exp(-((x[0] - 0.7) ** 2 + (x[1] - 0.8) ** 2) / 0.06),
    )
    # Second order: edge viscosity would spread the density more than the noise does.
    return mfg.solve(gathering, steps=20, scheme=mfg.Galerkin(degree=2, time="midpoint"))


def moments(solution: mfg.Solution) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the density at the end."""
    from dolfinx import fem

    x, m = solution.problem.x, solution.density(solution.steps)
    forms = [fem.form(x[i] ** k * m * ufl.dx) for k in (1, 2) for i in (0, 1)]
    comm = solution.problem.domain.comm
    first = [comm.allreduce(fem.assemble_scalar(f), MPI.SUM) for f in forms]
    mean, square = np.array(first[:2]), np.array(first[2:])
    return mean, np.sqrt(square - mean**2)


def test_noisy_layers_carry_samples_to_the_density_of_the_control(gathering):
    field = VelocityField.of(gathering)
    assert (field.steps, field.dim) == (20, 2)
    noise = np.sqrt(2 * 0.02)
    net = fit(field, field.sample(800, 0), layers=20, width=8, noise=noise)
    end = net(field.sample(20_000, 1), noise=noise, rng=2)
    mean, spread = moments(gathering)
    assert np.allclose(end.mean(axis=0), mean, atol=0.01)
    assert np.allclose(end.std(axis=0), spread, rtol=0.08)  # layers of dt = 1/20


def test_layers_of_the_current_velocity_need_no_noise(gathering):
    field = VelocityField.of(gathering, current=True)
    net = fit(field, field.sample(800, 0), layers=10, width=8)
    end = net(field.sample(20_000, 1))
    mean, spread = moments(gathering)
    assert np.allclose(end.mean(axis=0), mean, atol=0.01)
    assert np.allclose(end.std(axis=0), spread, rtol=0.08)


def on_a_line(scheme=None, steps=32, **changes) -> mfg.Solution:
    """Players on [0, 2] who are pulled to 1.4, against noise."""
    data = {
        "horizon": 1.0,
        "diffusion": 0.05,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: 0.0,
        "terminal_cost": lambda x, m: 4 * (x[0] - 1.4) ** 2,
        "initial_density": lambda x: ufl.exp(-((x[0] - 0.6) ** 2) / (2 * 0.12**2)),
    }
    domain = changes.pop("domain", None) or mfg.box(2.0, 48, MPI.COMM_WORLD)
    return mfg.solve(mfg.MeanFieldGame(domain, **(data | changes)), steps, scheme)


def density_at_the_end(solution: mfg.Solution) -> VelocityField:
    """A field at rest whose samples follow the density of P1 at the end."""
    field = VelocityField.of(solution)
    start = field.replica.gather(solution.levels.m[-1])
    return VelocityField(field.replica, [0, 1], 0 * field.nodal[:1], start=start)


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(1, "midpoint")], ids=str)
def test_the_current_velocity_carries_the_density_of_the_solution(scheme):
    """With the scheme's own viscosity: with D alone it was 20 % too narrow for Monotone."""
    solution = on_a_line(scheme)
    field = VelocityField.of(solution, current=True)
    end = field.flow(field.sample(20_000, 0), substeps=8)[-1]
    wanted = density_at_the_end(solution).sample(200_000, 1)
    assert end.mean() == pytest.approx(wanted.mean(), abs=0.003)
    assert end.std() == pytest.approx(wanted.std(), rel=0.025)


def test_what_a_flow_of_points_does_not_know_is_refused():
    periodic = on_a_line(domain=mfg.box(2.0, 12, periodic=True), steps=2, **WAVES)
    leaving = on_a_line(boundary={"right": mfg.Exit()}, steps=2)
    with pytest.raises(mfg.ProblemError, match="periodic"):
        fit(periodic)
    with pytest.raises(mfg.ProblemError, match=r"'right'.*ignore_exits"):
        fit(leaving)
    assert VelocityField.of(leaving, ignore_exits=True).steps == 2
    with pytest.raises(mfg.ProblemError, match="people enter"):
        VelocityField.of(on_a_line(source=lambda x, t: 1.0, steps=2), current=True)


WAVES = {
    "terminal_cost": lambda x, m: ufl.cos(ufl.pi * x[0]),
    "initial_density": lambda x: 1.0,
}


def test_points_that_noise_takes_through_a_wall_are_reported():
    wall = on_a_line(
        terminal_cost=lambda x, m: 2 * x[0] ** 2,
        initial_density=lambda x: ufl.exp(-((x[0] - 0.2) ** 2) / 0.02),
        steps=8,
    )
    field, noise = VelocityField.of(wall), np.sqrt(0.1)
    x = field.sample(400, 0)
    with pytest.warns(LeavesDomain, match="The flow takes"):
        end = field.flow(x, noise=noise, rng=1)[-1]
    assert 0.1 < field.outside(end).mean() < 0.6
    with pytest.warns(LeavesDomain, match="its noise takes"):
        net = fit(field, x, width=4, noise=noise)
    assert net.report().outside > 0.01
    assert "outside of the domain" in str(net.report())
    current = VelocityField.of(wall, current=True)
    end = current.flow(field.sample(4000, 0), substeps=8)[-1]
    assert np.all((end > 0) & (end < 2))
    assert end.mean() == pytest.approx(density_at_the_end(wall).sample(50_000, 1).mean(), abs=0.006)


def test_no_current_crosses_a_wall():
    """Normal components vanish at walls, flat or slightly curved, and all of them in corners."""
    mesh = replica(2, 4)
    tangential = along_walls(mesh)
    low, high = (np.isclose(mesh.x, end) for end in (0, 2))
    wall = low | high
    expected = np.where(wall[:, :, None] | wall[:, None], 0.0, np.eye(2))
    assert np.allclose(tangential, expected, atol=1e-12)


@pytest.mark.parametrize("length", [1e-14, 1e6])
def test_other_units_give_the_same_derivatives_and_steps(length):
    def v(x, t):
        return length * curved().v(x / length, t)

    here = VelocityField.from_callable(v, dim=2, horizon=1.0)
    exact = curved().jacobian(square(20), 0.3)
    assert np.allclose(here.jacobian(length * square(20), 0.3), exact, rtol=0, atol=1e-8)
    weights = np.array([[1.0, 2.0], [0.0, 1.0]])

    def scores(x):
        return np.tanh(x @ weights / length)

    x = square(20)
    assert np.allclose(
        margins(length * x, scores), length * margins(x, lambda x: scores(length * x))
    )
    mesh, times = replica(1, 4), length * np.linspace(0, 1, 5)
    nodal = np.random.default_rng(0).standard_normal((4, *mesh.x.shape)) / length
    field = VelocityField(mesh, times, nodal, discrete=True)
    x = np.full((1, 1), 0.7)
    assert np.allclose(field.advance(x, 0.0, length, 1), field.flow(x)[-1], rtol=0, atol=1e-14)


def test_the_field_of_a_solution_is_its_velocity(gathering):
    """At cell centres, where averaging to the nodes and interpolating back cancels to O(h^2)."""
    euler = mfg.solve(gathering.problem, steps=4)
    field, v = VelocityField.of(euler), euler.velocity(2)
    mesh = gathering.problem.domain.mesh
    centres = v.function_space.tabulate_dof_coordinates()[:, :2]
    inner = np.abs(centres - 1).max(axis=1) < 0.7
    cell_values = v.x.array.reshape(-1, 2)
    gap = np.linalg.norm(field(centres, 2.5 / 4) - cell_values, axis=1)[inner].max(initial=0.0)
    assert mesh.comm.allreduce(gap, MPI.MAX) < 0.05 * np.abs(field.nodal).max()


def test_the_field_of_a_shared_control_moves_the_classes_apart():
    """Two blobs side by side, one wanted below and one above."""

    def blob(at):
        return lambda x: ufl.exp(-((x[0] - at) ** 2 + (x[1] - 1) ** 2) / 0.02)

    problem = mfg.SharedControl(
        mfg.box([2.0, 2.0], 12, MPI.COMM_WORLD),
        densities=[blob(0.8), blob(1.2)],
        terminal_costs=[lambda x, y=y: (x[0] - 1) ** 2 + (x[1] - y) ** 2 for y in (0.6, 1.4)],
    )
    field = VelocityField.of(mfg.solve(problem, steps=5))
    assert field.discrete
    x = field.sample(600, 0)
    net = fit(field, x, width=8)
    assert net.layers == 5
    assert np.sqrt(np.mean(np.sum((net(x) - field.flow(x)[-1]) ** 2, axis=1))) < 0.01
    below = net(x)[:, 1] < 1
    assert np.mean(below == (x[:, 0] < 1)) > 0.95


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "layers"),
        ({"layers": 2.5}, "layers"),
        ({"width": -1}, "width"),
        ({"form": "dense"}, "form must be one of"),
        ({"form": "tanh"}, "one fixed bend"),
        ({"form": "affine", "width": 3}, "leave width out"),
        ({"form": "leapfrog", "noise": 0.1}, "leapfrog cannot take noise"),
        ({"layers": True}, "layers"),
        ({"layers": None, "iterations": 1.5}, "iterations"),
        ({"width": np.nan}, "width"),
        ({"noise": -1.0}, "noise"),
        ({"noise": "much"}, "noise"),
        ({"noise": True}, "noise"),
        ({"noise": np.nan}, "noise"),
        ({"ridge": -1e-8}, "ridge"),
        ({"steepest": 0.0}, "steepest"),
        ({"polish": -1}, "polish"),
        ({"polish": True}, "polish"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"noise": 0.1, "polish": 5}, "choose one"),
        ({"match": "dream"}, "match"),
        ({"samples": np.zeros((3, 2))}, "too few"),
        ({"samples": np.zeros((30, 3))}, r"shape \(n, 2\)"),
        ({"samples": np.full((30, 2), np.nan)}, "finite"),
        ({"samples": [["a", "b"]]}, "no array of numbers"),
        ({"samples": None}, "samples of your own"),
    ],
)
def test_fits_that_make_no_sense_are_refused(options, message):
    options = {"samples": square(), "layers": 2} | options
    with pytest.raises(mfg.ProblemError, match=message):
        fit(curved(), options.pop("samples"), **options)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda x, field: field.flow(x, steps=0), "steps"),
        (lambda x, field: field.flow(x, steps=2.5), "steps"),
        (lambda x, field: field.flow(x, substeps=0), "substeps"),
        (lambda x, field: field.flow(x, noise=-1.0), "noise"),
        (lambda x, field: field.flow(x, noise=0.1, rng="dice"), "rng"),
        (lambda x, field: field.reference(x, 0), "layers"),
        (lambda x, field: field.advance(x, 0.0, 1.0, 0), "substeps"),
        (lambda x, field: still()(x, np.nan), "t must be"),
        (lambda x, field: still()(x, 1.1), "from 0 to 1"),
        (lambda x, field: still(times=["a", "b"]), "times"),
        (lambda x, field: still(nodal="none"), "nodal"),
        (lambda x, field: still(start=np.full(9, np.nan)), "initial density"),
        (lambda x, field: some_net()(x, noise=np.nan), "noise"),
        (lambda x, field: some_net()(x, noise=0.1, rng=-1), "rng"),
        (lambda x, field: ResNet("1", np.zeros((1, 2))), "horizon"),
        (lambda x, field: some_net().with_arrays(c="zero"), "c is no array"),
        (lambda x, field: VelocityField.from_callable(field.v, dim=2.5, horizon=1.0), "dim"),
        (lambda x, field: VelocityField.from_callable(field.v, dim=2, horizon=True), "horizon"),
        (lambda x, field: VelocityField.from_callable(field.v, dim=2, horizon="1"), "horizon"),
        (lambda x, field: recommend(field, x, margin=-1.0), "margin"),
        (lambda x, field: recommend(field, x, margin="wide"), "margin"),
        (lambda x, field: recommend(field, x, theta=1.0), "theta"),
        (lambda x, field: recommend(field, x, quantile=np.nan), "quantile"),
        (lambda x, field: recommend(field, x, widths=()), "widths"),
        (lambda x, field: recommend(field, x, widths=[0, 4]), "widths"),
        (lambda x, field: recommend(field, x, max_layers=2.5), "max_layers"),
        (lambda x, field: recommend(field, x[:7]), "too few"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(attempt, message):
    with pytest.raises(mfg.ProblemError, match=message):
        attempt(square(20), curved())


def test_numbers_of_numpy_will_do():
    net = fit(curved(), square(50), layers=np.int64(1), width=np.int32(2), noise=np.float32(0.0))
    assert (net.layers, net.width) == (1, 2)


def test_bad_points_fields_and_arrays_are_refused():
    net = some_net()
    with pytest.raises(mfg.ProblemError, match="shape"):
        net(np.zeros(2))
    with pytest.raises(mfg.ProblemError, match="NaN"):
        net(np.array([[0.0, np.nan]]))
    with pytest.raises(mfg.ProblemError, match="no noisy inference"):
        some_net("leapfrog")(square(), noise=0.1)
    with pytest.raises(mfg.ProblemError, match="must have the shape"):
        net.with_arrays(b=np.zeros((3, 5)))
    with pytest.raises(mfg.ProblemError, match="c must be finite"):
        net.with_arrays(c=np.full((3, 2), np.inf))
    with pytest.raises(mfg.ProblemError, match="has the arrays"):
        ResNet(horizon=1.0, c=np.zeros((2, 2)))
    with pytest.raises(mfg.ProblemError, match="no such option"):
        fit(curved(), square(), layers=1, width=2).resample(2, depth=3)
    with pytest.raises(mfg.ProblemError, match="no velocity field"):
        fit("spirals", square(), layers=1)
    with pytest.raises(mfg.ProblemError, match="returned the shape"):
        fit(VelocityField.from_callable(lambda x, t: x[:, 0], dim=2, horizon=1.0), square())
    with pytest.raises(mfg.ProblemError, match="times must be two times or more that increase"):
        VelocityField(replica(1, 2), [0.0, 0.0], np.zeros((1, 3, 1)))
    with pytest.raises(mfg.ProblemError, match="nodal velocities"):
        VelocityField(replica(1, 2), [0.0, 1.0], np.zeros((2, 3, 1)))
