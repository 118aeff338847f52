"""Interface checks of the parts for single objects, for test_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from stadia.core.errors import DataError
from stadia.datasets.objects.object_labels import ObjectImages
from stadia.datasets.objects.open_objects import (
    LAYOUTS,
    OBJECT_FORMATS,
    detect_object_layout,
    list_object_splits,
    open_object_images,
)
from stadia.geometry.boxes import Symmetry
from stadia.geometry.se3 import quaternion_multiply, se3_exp
from stadia.metrics.object_metrics import PosedObjects
from stadia.report import metric_labels


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
    better = metric_labels.metric_label(name).better
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
    with pytest.raises(DataError, match="expected") as caught:
        open_object_images(folder, "train", name)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
