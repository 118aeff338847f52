"""The loss of objects in two processes: unequal shares of a batch have the gradient of the whole one."""

import multiprocessing
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.processes import join_together
from torch import Tensor

from stadia.core.config import resolve_config
from stadia.core.types import Camera
from stadia.geometry.poses import matrix_from_quaternion_wxyz
from stadia.losses.class_masks import IGNORE_INDEX
from stadia.objectpose import config
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.config import ObjectPoseConfig
from stadia.objectpose.data.object_samples import ObjectTargets
from stadia.objectpose.recipe import ObjectPoseRecipe

pytestmark = pytest.mark.slow  # its fixtures train or compile

SHARES = (slice(0, 2), slice(2, 4))


def targets() -> ObjectTargets:
    """Four images with 3, 2, 0 and 1 objects; some pixels of the third are of an object without a label."""
    generator = torch.Generator().manual_seed(0)
    instance = torch.zeros(4, 32, 64, dtype=torch.long)
    for picture, count in enumerate((3, 2, 0, 1)):
        for number in range(count):
            instance[picture, 4 : 14 + 5 * number, 20 * number + 2 : 20 * number + 14] = number + 1
    known = torch.tensor([[True] * 3, [True, True, False], [False] * 3, [True, False, False]])
    class_id = torch.where(known, torch.tensor([1, 4, 2]), 0)
    class_map = (
        torch.cat((torch.zeros(4, 1, dtype=torch.long), class_id), 1).gather(1, instance.flatten(1)).view_as(instance)
    )
    class_map[2, 20:] = IGNORE_INDEX
    quaternion = torch.nn.functional.normalize(torch.randn(4, 3, 4, generator=generator), dim=-1)
    T = torch.eye(4).repeat(4, 3, 1, 1)
    T[..., :3, :3] = matrix_from_quaternion_wxyz(quaternion)
    T[..., 2, 3] = 0.5 + torch.rand(4, 3, generator=generator)
    size_m = 0.05 + 0.1 * torch.rand(4, 3, 3, generator=generator)
    symmetry = Symmetry.parse(["none", "revolution", "none"] * 4)
    symmetry = Symmetry(symmetry.revolution.view(4, 3), symmetry.turns.view(4, 3, -1, 4).float())
    camera = Camera(torch.tensor([[60.0, 0, 31.5], [0, 60, 15.5], [0, 0, 1]]).repeat(4, 1, 1), 32, 64)
    px = torch.ones(4, 3, dtype=torch.long)
    image = torch.rand(4, 3, 32, 64, generator=generator)
    return ObjectTargets(image, camera, instance, class_map, known, class_id, quaternion, T, size_m, symmetry, px, px)


def share(whole: ObjectTargets, of: slice) -> ObjectTargets:
    tensors = {
        name: getattr(whole, name)[of]
        for name in whole.__dataclass_fields__
        if isinstance(getattr(whole, name), Tensor)
    }
    symmetry = Symmetry(whole.symmetry.revolution[of], whole.symmetry.turns[of])
    return replace(whole, **tensors, symmetry=symmetry, camera=Camera(whole.camera.K[of], 32, 64))


def gradient(of: ObjectTargets) -> tuple[Tensor, Tensor]:
    """Of all weights, and the loss; nothing in the network depends on the other images of a batch."""
    torch.manual_seed(0)
    small = {"encoder": "test_efficientnet", "pretrained": False, "pyramid_channels": 8, "segmentation_channels": 8}
    given = {"model": small, "loss": {"focal": 1.0}, "data": {"classes": config.TABLEWORLD_CLASSES}}
    recipe = ObjectPoseRecipe(resolve_config(ObjectPoseConfig, given, [])).eval()
    report = recipe.compute_loss(recipe.network(of.image), of)
    report.total.backward()
    gradients = [one.grad.flatten() for one in recipe.network.parameters() if one.grad is not None]
    return torch.cat(gradients), report.total.detach()


def one_of_two(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
    torch.save(gradient(share(targets(), SHARES[rank])), folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_unequal_process_batches_have_the_gradient_of_the_full_batch(tmp_path: Path) -> None:
    """DDP takes the mean of the processes' gradients; one has five objects, the other one."""
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12 warns of forking beside threads; they do nothing here
        processes = [context.Process(target=one_of_two, args=(rank, tmp_path)) for rank in range(2)]
        for one in processes:
            one.start()
    assert join_together(processes, timeout=600) == [0, 0]
    of_each = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole, loss = gradient(targets())
    torch.testing.assert_close((of_each[0][0] + of_each[1][0]) / 2, whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close((of_each[0][1] + of_each[1][1]) / 2, loss, rtol=1e-5, atol=0)
