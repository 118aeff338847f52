"""`stadia evaluate` on PNG folders equals an independent NumPy loop (experiments/png_protocol.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.evaluation.image_score import score_image
from stadia.evaluation.protocols import PROTOCOLS

SIZES = [(375, 1242), (370, 1224), (370, 1226), (374, 1238), (376, 1241)]


@pytest.fixture(scope="module")
def independent() -> ModuleType:
    path = Path(__file__).parents[2] / "experiments" / "png_protocol.py"
    spec = importlib.util.spec_from_file_location("png_protocol", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("crop", ["garg", "eigen"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_random_maps_of_every_size(height: int, width: int, crop: str, independent: ModuleType) -> None:
    """Sparse truth from a millimetre to beyond the cap, predictions of the KB crop from 1 mm to infinity."""
    rng = np.random.default_rng(height + width)
    true_m = np.exp(rng.uniform(np.log(5e-4), np.log(120), (height, width)))
    true_m[rng.random(true_m.shape) > 0.05] = 0
    predicted_m = np.exp(rng.uniform(np.log(5e-4), np.log(300), (352, 1216)))
    predicted_m[rng.random(predicted_m.shape) < 0.01] = np.inf
    expected = independent.loop({"a": predicted_m}, {"a": true_m}, crop, kb_crop=True)["a"]
    ours = score_image("a", predicted_m, true_m, DepthScale.METRES, PROTOCOLS[independent.PROTOCOL_OF_CROP[crop]], "kb")
    assert ours is not None
    assert ours.outside_crop == 0
    assert {name: ours.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-6)
