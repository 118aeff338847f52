"""Losses, geometry and networks have the values and gradients of the CPU on a GPU, and wait for nothing."""

import copy

import pytest
import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.differentiable.batch import Batch, Inputs, Meta, Prediction, Targets
from stadia.differentiable.view_synthesis import synthesize_views
from stadia.geometry.poses import se3_exp
from stadia.losses.config import SelfSupervisedLossConfig
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.networks.config import DepthPoseNetConfig
from stadia.networks.pose_net import DepthPoseNet
from stadia.training.loop.config import OptimizerConfig
from stadia.training.loop.recipe import build_optimizer
from stadia.training.loss_checks.video_cases import PlaneScene, render_plane

pytestmark = pytest.mark.gpu

NAMES = ("-1", "+1", "stereo")


def render(dtype: torch.dtype, *, height: int = 32, width: int = 64) -> PlaneScene:
    return render_plane(height=height, width=width, names=NAMES, batch=2, dtype=dtype)


def loss_and_gradients(scene: PlaneScene, device: torch.device) -> tuple[dict[str, float], list[Tensor]]:
    """Return the terms at a depth 5 % too far, and the gradients of inverse depth and motion, on the CPU."""
    inverse_depth = (scene.inverse_depth / 1.05).to(device).requires_grad_()
    twist = (0.9 * scene.twist).to(device).requires_grad_()
    maps = tuple(torch.nn.functional.avg_pool2d(inverse_depth, 2**s) if s else inverse_depth for s in range(3))
    report = SelfSupervisedLoss(SelfSupervisedLossConfig(pyramid=2))(
        scene.targets.to(device), Prediction(maps, se3_exp(twist)), scene.source_names
    )
    report.total.backward()
    terms = {name: float(value) for name, value in report.terms.items()}
    return terms, [inverse_depth.grad.cpu(), twist.grad.cpu()]  # type: ignore[union-attr]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_loss_and_gradients_match_the_cpu(device: torch.device, dtype: torch.dtype, tolerance: float) -> None:
    """In float32 a pixel between two candidates may change its winner."""
    scene = render(dtype)
    terms, gradients = loss_and_gradients(scene, torch.device("cpu"))
    found, found_gradients = loss_and_gradients(scene, device)
    assert found == pytest.approx(terms, rel=tolerance)
    for gradient, other in zip(gradients, found_gradients, strict=True):
        assert (gradient - other).norm() <= 10 * tolerance * gradient.norm()


def test_the_identity_warp_returns_the_image(device: torch.device) -> None:
    targets = render(torch.float32).targets.to(device)
    identity = torch.eye(4, device=device).expand(2, 1, 4, 4)
    depth_m = torch.full_like(targets.image[:, :1], 7.0)
    source_camera = Camera(targets.camera.K[:, None], targets.camera.height, targets.camera.width)
    views = synthesize_views(targets.image[:, None], depth_m, targets.camera, source_camera, identity)
    assert torch.equal(views.image[:, 0], targets.image)
    assert views.valid.all()


def make_network() -> DepthPoseNet:
    torch.manual_seed(0)
    return DepthPoseNet(DepthPoseNetConfig(pose_net="resnet", pose_encoder="mobilenetv3_small_050", pretrained=False))


def make_batch() -> Batch:
    targets: Targets = render(torch.float32).targets
    rig = se3_exp(render(torch.float32).twist)
    inputs = Inputs(targets.image, targets.sources, targets.camera, rig)
    return Batch(inputs=inputs, targets=targets, meta=tuple(Meta("plane", n) for n in range(2)), source_names=NAMES)


@pytest.mark.slow
def test_networks_predict_what_they_predict_on_the_cpu(device: torch.device) -> None:
    network, batch = make_network().eval(), make_batch()
    with torch.no_grad():
        here, there = network(batch), copy.deepcopy(network).to(device)(batch.to(device))
    for one, other in zip(here.inverse_depth, there.inverse_depth, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(there.T_source_target.cpu(), here.T_source_target, rtol=1e-3, atol=1e-5)


def train_one_step(network: DepthPoseNet, batch: Batch, *, bf16: bool = False) -> tuple[float, Tensor]:
    """Make a step of training; return the loss, and the gradient of all weights on the CPU."""
    optimizer = build_optimizer(network, OptimizerConfig(lr=1e-3))
    with torch.autocast(batch.targets.image.device.type, torch.bfloat16, enabled=bf16):
        total = SelfSupervisedLoss()(batch.targets, network(batch), NAMES).total
    total.backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).cpu()
    optimizer.step()
    return float(total.detach()), gradient


@pytest.mark.slow
def test_a_training_step_matches_the_cpu(device: torch.device) -> None:
    network, batch = make_network(), make_batch()
    other = copy.deepcopy(network).to(device)
    loss, gradient = train_one_step(network, batch)
    found, found_gradient = train_one_step(other, batch.to(device))
    assert found == pytest.approx(loss, rel=1e-3)
    assert torch.cosine_similarity(gradient, found_gradient, dim=0) > 0.99
    moved = torch.cat([p.detach().flatten().cpu() for p in other.parameters()])
    expected = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert (moved - expected).abs().mean() < 1e-4, "the first update of Adam is the sign of the gradient"


@pytest.mark.slow
def test_bf16_trains_on_nearly_the_same_loss(device: torch.device) -> None:
    network, batch = make_network().to(device), make_batch().to(device)
    other = copy.deepcopy(network)
    loss, gradient = train_one_step(network, batch)
    found, found_gradient = train_one_step(other, batch, bf16=True)
    assert found == pytest.approx(loss, rel=0.05)
    assert torch.cosine_similarity(gradient, found_gradient, dim=0) > 0.8


def test_adam_keeps_its_step_counters_on_the_device(device: torch.device) -> None:
    """Counters in the processor's memory would be sent at each update, of every weight."""
    module = torch.nn.Linear(3, 2).to(device)
    optimizer = build_optimizer(module, OptimizerConfig())
    module(torch.ones(1, 3, device=device)).sum().backward()
    optimizer.step()
    assert {state["step"].device.type for state in optimizer.state.values()} == {device.type}
    assert all(group["fused"] for group in optimizer.param_groups)


def test_a_step_waits_for_nothing(gpu: torch.device) -> None:
    """Torch raises an error where an operation would wait for the GPU."""
    network, batch, loss = make_network().to(gpu), make_batch().to(gpu), SelfSupervisedLoss()
    optimizer = build_optimizer(network, OptimizerConfig())
    for number in range(2):  # the first chooses kernels
        torch.cuda.set_sync_debug_mode("error" if number else "default")
        try:
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                total = loss(batch.targets, network(batch), NAMES).total
            total.backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
