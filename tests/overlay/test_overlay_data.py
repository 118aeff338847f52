"""`stadia data foregrounds` and `stadia data overlay`, from the command line."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from tests.overlay.noisy_roads import write_noisy_roads

from stadia.overlay.config import OverlayConfig, OverlayDataConfig, OverlayLossConfig
from stadia.overlay.overlay_data import fit_label_range, open_overlay_data


@pytest.fixture
def roads(tmp_path: Path) -> Path:
    """Two recordings of noise over a road, with depth."""
    return write_noisy_roads(tmp_path / "roads", images=10, width=48)


@pytest.mark.slow
def test_set_is_rendered_and_drawn_without_downloads(stadia, roads: Path, tmp_path: Path) -> None:
    cut, out = tmp_path / "cut", tmp_path / "out"
    code, said, _ = stadia(
        "data", "foregrounds", "--out", cut, "train=3", "val=2", "test=0", "views=1", "side=32", "supersampling=3"
    )
    assert code == 0
    assert said.startswith(str(cut / "foregrounds.json"))
    given = [f"backgrounds.path={roads}", f"foregrounds.path={cut}", "height=32", "width=32"]
    code, said, _ = stadia("data", "overlay", "--out", out, "--count", 12, "--val", 4, *given)
    assert code == 0
    assert "object             3       2       0" in said
    assert "depth: exact, metres" in said
    assert cv2.imread(str(out / "preview.png")).shape[1] == 4 * (4 * 32 + 4)
    assert json.loads((out / "dataset.json").read_text())["splits"]["train"]["images"] == 12
    code, said, _ = stadia("data", "overlay", "--sheet", tmp_path / "sheet.png", f"path={out}", "height=32", "width=32")
    assert code == 0
    sheets = (cv2.imread(str(path)) for path in (tmp_path / "sheet.png", out / "preview.png"))
    assert np.array_equal(*sheets), "on disk as on demand"


def write_published_layout(root: Path) -> None:
    """Write backgrounds 1, 2 and 76 with two foregrounds and all 40 places, gray depth from 10 to 240."""
    random = np.random.default_rng(0)
    for background in (1, 2, 76):
        behind = cv2.resize(random.integers(0, 255, (4, 4, 3), np.uint8), (32, 32))
        (root / "bg").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "bg" / f"bg{background}.jpg"), behind)
        for foreground in (1, 2):
            folder = root / f"bg{background}" / f"fg_{foreground}"
            for kind in ("overlay", "depth", "mask"):
                (folder / kind).mkdir(parents=True)
            for file in range(1, 41):
                mask = np.zeros((32, 32), np.uint8)
                cv2.circle(mask, (6 + file % 20, 8 + foreground), 5, 255, -1)
                depth = np.where(mask > 0, 40, np.linspace(10, 240, 32)[:, None]).astype(np.uint8)
                layers = {"overlay": np.where(mask[..., None] > 0, 20, behind), "depth": depth, "mask": mask}
                for kind, layer in layers.items():
                    cv2.imwrite(str(folder / kind / f"{file}.jpg"), layer)


@pytest.mark.slow
def test_labels_of_the_published_set_are_scored_whole_by_default(tmp_path: Path) -> None:
    write_published_layout(tmp_path)
    console = Console(file=io.StringIO(), width=200)
    config = OverlayConfig(data=OverlayDataConfig(path=str(tmp_path), val_rule="published", height=32, width=32))
    fitted = fit_label_range(config, console)
    assert (fitted.loss.min_depth, fitted.loss.max_depth) == (1 / 510, 1 + 1 / 510)
    assert "loss.min_depth=0.00196, loss.max_depth=1.002" in console.file.getvalue()
    data = open_overlay_data(fitted, console)
    assert {split: source.count for split, source in data.overlays.images.items()} == {"train": 160, "val": 80}
    found = {finding.code: finding.severity for finding in data.findings()}
    assert "C14" not in found
    assert [code for code, severity in found.items() if severity == "stop"] == ["C02"], "objects on both sides"
    assert "C14" in {finding.code for finding in open_overlay_data(config, console).findings()}
    own = config.model_copy(update={"loss": OverlayLossConfig(min_depth=0.1)})
    assert fit_label_range(own, console) is own
    assert fit_label_range(OverlayConfig(), console) == OverlayConfig()
