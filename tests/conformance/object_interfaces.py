"""Interface checks of the parts for single objects, for test_tables.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stadia.core.errors import DataError
from stadia.differentiable.segments import segment_means
from stadia.geometry.poses import quaternion_multiply, se3_exp
from stadia.geometry.segments import segments_from_instances
from stadia.losses.loss_report import LossReport
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.data.object_labels import ObjectImages
from stadia.objectpose.data.open_objects import (
    LAYOUTS,
    OBJECT_FORMATS,
    detect_object_layout,
    list_object_splits,
    open_object_images,
)
from stadia.objectpose.instances import unit_directions
from stadia.objectpose.losses import ObjectPoseLabels, ObjectPosePrediction
from stadia.objectpose.metrics import PosedObjects
from stadia.report.run_files import metric_label


def rotation_loss(name: str, part: Any, folder: Path) -> None:
    """One value an object: 0 at the truth, rising to 180 degrees, blind to sign and to symmetry, with finite gradients
    everywhere.
    """
    generator = torch.Generator().manual_seed(0)
    true = torch.nn.functional.normalize(torch.randn(19, 4, generator=generator), dim=-1)
    half = torch.deg2rad(torch.linspace(0, 180, 19)) / 2
    away = quaternion_multiply(true, torch.stack((half.cos(), half.sin(), 0 * half, 0 * half), -1)).requires_grad_()
    symmetry = Symmetry.parse(["none", "revolution", [(0.0, 0.0, 1.0, 0.0)]] * 6 + ["none"])
    for of in (None, symmetry):
        loss = part(away, true, of)
        assert loss.shape == (19,)
        assert_close(part(-away, true, of), loss)
        (gradient,) = torch.autograd.grad(loss.sum(), away)
        assert gradient.isfinite().all()
    rising = part(away, true).detach()
    assert rising[0].abs() < 1e-6
    assert (rising.diff() > 0).all()
    spun = quaternion_multiply(true, torch.stack((half.cos(), 0 * half, half.sin(), 0 * half), -1))
    assert_close(part(spun, true, Symmetry.parse(["revolution"] * 19)), torch.zeros(19), atol=1e-6, rtol=0)


def object_metric(name: str, part: Any, folder: Path) -> None:
    """One value an object: the truth itself is perfect, what is wrong is worse, in any unit of float; of no object
    there is none.
    """
    generator = torch.Generator().manual_seed(0)
    T = se3_exp(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    wrong = T @ se3_exp(0.2 * torch.randn(6, 6, generator=generator, dtype=torch.float64))
    size_m = 0.1 + torch.rand(6, 3, generator=generator, dtype=torch.float64)
    symmetry = Symmetry.parse(["none", "revolution", [(0.0, 0.0, 1.0, 0.0)]] * 2)
    true, moved = (
        PosedObjects(torch.ones(6, dtype=torch.long), pose, size_m, symmetry, torch.ones(6)) for pose in (T, wrong)
    )
    better = metric_label(name).better
    assert better in ("lower", "higher"), f"the report has no direction for '{name}' is good"
    perfect = torch.full((6,), 0.0 if better == "lower" else 1.0, dtype=torch.float64)
    assert_close(part(true, true), perfect, atol=1e-5, rtol=0)
    assert ((part(moved, true) > perfect) if better == "lower" else (part(moved, true) < perfect)).all()
    assert_close(
        part(PosedObjects(moved.class_id, wrong.float(), size_m.float(), symmetry, moved.score), true),
        part(moved, true),
        atol=1e-3,
        rtol=0,
    )
    none = true[torch.zeros(0, dtype=torch.long)]
    assert part(none, none).shape == (0,)


def format_of_object_data(name: str, part: Any, folder: Path) -> None:
    """Images of objects by one name in every table of formats; a missing one is refused in one line."""
    assert issubclass(part, ObjectImages)
    assert list(OBJECT_FORMATS) == list(LAYOUTS)
    assert LAYOUTS[name]
    (folder / "note.txt").write_text("no data set", encoding="utf-8")
    assert detect_object_layout(folder) is None
    if name != "objects":  # its splits are listed in dataset.json
        assert list_object_splits(folder, name) == []
    with pytest.raises(DataError) as caught:
        open_object_images(folder, "train", name)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def labeled_objects() -> tuple[Callable[[Any, Tensor], LossReport], Tensor, tuple[Tensor, ...], tuple[int, int]]:
    """Two objects in one image, and an image without. Channels: 3 logits, quaternion, direction, log depth, size."""
    generator, height, width = torch.Generator().manual_seed(0), 24, 32
    instance = torch.zeros(2, height, width, dtype=torch.int64)
    instance[0, 2:12, 4:12], instance[0, 10:22, 18:30] = 1, 2
    segments, symmetry = segments_from_instances(instance), Symmetry.parse(["none", "revolution"])
    quaternion = torch.nn.functional.normalize(torch.randn(2, 4, generator=generator), dim=-1)
    depth_m, size_m = torch.tensor([0.7, 1.2]), torch.tensor([[0.1, 0.2, 0.3], [0.2, 0.1, 0.2]])
    center_px, of_pixel = torch.tensor([[8.2, 6.7], [24.4, 16.1]]), segments.segment
    labels = ObjectPoseLabels(instance, segments, quaternion, center_px, depth_m, size_m, symmetry)
    within = segments.pixel % (height * width)
    place = torch.stack((within % width, within // width), -1).float()
    values = (quaternion[of_pixel], unit_directions(center_px[of_pixel], place), depth_m.log()[of_pixel, None])
    true = torch.zeros(2, 13, height, width)
    true[:, :3] = 20 * torch.nn.functional.one_hot(instance, 3).movedim(-1, 1)
    image, y, x = segments.pixel // (height * width), within // width, within % width
    true[image, 3:, y, x] = torch.cat((*values, size_m[of_pixel]), -1)

    def report(loss: Any, maps: Tensor) -> LossReport:
        at_pixels = segments.gather(maps[:, 3:])
        rotation, to_center, _, _ = at_pixels.split([4, 2, 1, 3], -1)
        means = segment_means(at_pixels, of_pixel, 2)
        prediction = ObjectPosePrediction(
            maps[:, :3], place, rotation, to_center, means[:, :4], means[:, 6], means[:, 7:]
        )
        return loss(prediction, labels)

    turned, logits = true.clone(), true.clone()
    turned[:, 3:7] = true[:, [4, 3, 6, 5]]
    logits[:, :3] *= -0.1
    return report, true, (turned, logits, true + 0.3, 0.5 * true), (height, width)
