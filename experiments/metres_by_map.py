"""Measure metres of one camera by the points of the video's map, also for a network whose depth has an unknown shift.

    python experiments/metres_by_map.py --out runs/metres-by-map

KITTI odometry 06 (real, needs the sample) and an unseen RoadWorld video, both through one camera. `base` predicts. As
`relative` its inverse depth is multiplied by 7 and .4 is added, since networks such as Depth Anything leave both open.
Each row has the receipt of a source, and AbsRel in metres of the depth that it scales. 90 s on one core.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mono_start import SAMPLES, make_clip, make_map
from numpy.typing import NDArray
from zero_shot import predict_depth, read_sample, score_images

from stadia.core.errors import StadiaError
from stadia.core.types import Camera, DepthScale, Predictor
from stadia.data.video.map_geometry import MapGeometry
from stadia.data.video.video_map import find_map_geometry
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.receipt import ScaledPredictor, measure_scale
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint

HEIGHTS_M = {"kitti06": 1.65, "road": 1.65}
SIZE = (128, 416)


class RelativePredictor:
    """The inverse depth of another predictor with a scale and a shift that nobody knows."""

    depth_scale, crop = DepthScale.AFFINE_INVERSE, "none"

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.height, self.width = predictor, predictor.height, predictor.width

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        return 7 * self.predictor.inverse_depth(image, camera) + 0.4

    def T_next_now(self, *given: object) -> None:
        return None


def measure(predictor: Any, given: Any, source: str, mapped: MapGeometry | None, images: Any) -> str:
    """Return the cells of a source: its verdict and deviation, and the scores of the depth that it scales."""
    try:
        receipt = measure_scale(predictor, given, [source], mapped=mapped)
    except StadiaError as error:
        return f"refused: {error.found} | | |"
    scores = score_images(partial(predict_depth, ScaledPredictor(predictor, receipt)), images)
    return f"{receipt.verdict}, {receipt.deviation:.1%} | {scores.metres:.3f} | {scores.ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/metres-by-map"))
    folder = parser.parse_args().out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    base = load_predictor(open_network_checkpoint("base", lambda: SIZE))
    print(
        "| clip | network | source | verdict, deviation | AbsRel, metres | over the truth |\n|---|---|---|---|---|---|"
    )
    for name, height_m in HEIGHTS_M.items():
        clip = make_clip(name, folder)
        make_map(clip, None)
        assert clip.recording is not None
        mapped, images = find_map_geometry(clip.video, skip_damaged=True), read_sample(SAMPLES[name], clip.recording)

        def given(video: Path = clip.video, K: Any = clip.K) -> PredictionInput:
            return open_inputs(video, camera={"K": K.tolist()})[0]

        raw = score_images(partial(predict_depth, base), images)
        print(f"| {name} | base | none | | {raw.metres:.3f} | {raw.ratio:.2f} |", flush=True)
        for title, predictor in (("base", base), ("relative", RelativePredictor(base))):
            for source in (f"height={height_m}", f"map={height_m}"):
                print(
                    f"| {name} | {title} | {source} | {measure(predictor, given, source, mapped, images)}", flush=True
                )


if __name__ == "__main__":
    main()
