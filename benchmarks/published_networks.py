"""Take METER, a published network of 0.7 M parameters, through score, metres and adaptation on the real samples.

    python benchmarks/published_networks.py score
    python benchmarks/published_networks.py adapt --run RUN
    python benchmarks/published_networks.py flicker --roadworld ROADWORLD
    python benchmarks/published_networks.py focal --roadworld ROADWORLD

score: AbsRel and d1 on KITTI raw (LiDAR, Garg's crop, medians made equal).
adapt: median relative difference from semi-global matching on the last 8 pairs of KITTI 06, of the published network
       and of a run of `stadia adapt` that trained on the first 40.
flicker: warped depth error of KITTI 06 and of a RoadWorld video, without and with --smooth, and the error of depth at
       equal medians: of RoadWorld's exact depth, and of semi-global matching.
focal: the focal length by the ratio of two sources of scale on 12 frames, with the right camera and with one whose
       focal length is 1.3 and 2 times as long; and whether finding K31 names it.

Prints JSON. Needs the real samples (STADIA_REAL_DATA, or shared/data beside the repository).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from harness import REAL_DATA, make_parser

from stadia.core.types import RIGHT, Camera
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.data.recordings import RecordingView
from stadia.evaluation.predictions_folder import Predictions, Provenance
from stadia.evaluation.protocols import find_protocol
from stadia.judge.depth.focal_checks import check_focal_estimates
from stadia.predict.evaluate_recordings import evaluate_recordings
from stadia.predict.inputs import make_recording_input, open_inputs
from stadia.predict.receipt import measure_scale
from stadia.scale.sources import match_pair_depth
from stadia.training.recipes import load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint


def open_meter(data: Path, name: str) -> Any:
    """Return the predictor of METER XXS, up to scale."""
    weights = data / "published_depth" / f"meter_{name}_xxs.pt"
    size = [] if name == "kitti" else ["network.size=[192,256]"]
    opened = open_network_checkpoint("meter_network:Meter", settings=[f"network.weights={weights}", *size])
    return load_predictor(opened)


def compare_with_matching(predictor: Any, data: Path, *, is_metric: bool) -> float:
    """Return the median relative difference from semi-global matching on the last 8 pairs of KITTI 06."""
    (given,) = open_inputs(data / "kitti_odometry")
    recording = given.recording
    assert recording is not None
    assert recording.T_right_left is not None
    errors = []
    for index in range(len(recording) - 8, len(recording)):
        shown = PreparedFrame.prepare(predictor, next(read_frames(recording, [index])))
        camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
        inverse = predictor.inverse_depth(torch.from_numpy(shown.image)[None], camera)[0, 0].float().numpy()
        depth = shown.predicted(predictor.depth_scale, inverse, None).depth_at_image()
        pair = recording.image(index), recording.image(index, RIGHT)
        matched = match_pair_depth(*pair, recording.K(index), recording.T_right_left)
        known = (matched > 0) & (matched < 50)
        found = depth[known] if is_metric else depth[known] * np.median(matched[known]) / np.median(depth[known])
        errors.append(np.abs(found - matched[known]) / matched[known])
    return float(np.median(np.concatenate(errors)))


class OtherFocal(RecordingView):
    """A recording with a camera whose focal length is wrong by a factor."""

    def __init__(self, recording: Any, ratio: float) -> None:
        super().__init__(recording)
        self.ratio = ratio

    def camera(self, index: int, side: str = "left") -> Camera:
        camera = self.recording.camera(index, side)
        K = camera.K.copy()
        K[..., 0, 0] *= self.ratio
        K[..., 1, 1] *= self.ratio
        return Camera(K, camera.height, camera.width)

    def K(self, index: int, side: str = "left") -> Any:
        return self.camera(index, side).K

    def depth_m(self, index: int, side: str = "left") -> Any:
        return self.recording.depth_m(index, side)

    def T_world_camera(self, index: int, side: str = "left") -> Any:
        return self.recording.T_world_camera(index, side)

    def timestamp_s(self, index: int) -> float | None:
        return self.recording.timestamp_s(index)


def measure_focals(data: Path, roadworld: Path | None) -> dict[str, Any]:
    """Return the ratio of the given focal length to that of two sources, and the finding, by data and true ratio."""
    cases = {data / "kitti_odometry": ("baseline", "gps")}
    cases |= {} if roadworld is None else {roadworld: ("baseline", "lidar")}
    table: dict[str, Any] = {}
    for folder, sources in cases.items():
        predictor = open_meter(data, "kitti")
        recording = open_inputs(folder)[0].recording
        indices = np.unique(np.linspace(0, len(recording) - 1, 12).astype(int)).tolist()  # type: ignore[arg-type]
        for ratio in (1.0, 1.3, 2.0):
            given = partial(make_recording_input, OtherFocal(recording, ratio), indices)
            receipt = measure_scale(predictor, given, sources)
            estimate = receipt.find_focal()
            assert estimate is not None
            assert receipt.focal is not None
            findings = check_focal_estimates(receipt.focal, [estimate])
            table[f"{folder.name}, {ratio:g}"] = {
                "given_over_estimated": round(receipt.focal / estimate.focal, 3),
                "deviation": round(estimate.deviation, 3),
                "named": bool(findings),
            }
    return table


def measure_steadiness(data: Path, roadworld: Path | None) -> dict[str, Any]:
    """Return warped depth errors and errors of depth, without and with averaging over neighbors."""
    table: dict[str, Any] = {}
    for folder in [data / "kitti_odometry", *([roadworld] if roadworld else [])]:
        for steady in (False, True):
            predictor = open_meter(data, "kitti")
            recording = open_inputs(folder)[0].recording
            assert recording is not None
            protocol = find_protocol("relative")
            made_by = Provenance(recipe="network", config_hash="meter", steady=steady)
            with tempfile.TemporaryDirectory() as out:
                scores = evaluate_recordings(predictor, [recording], protocol, Path(out), made_by)
                (flicker,) = scores.flicker.values()
                row = flicker.to_json()
                if scores.depth is not None:
                    row["abs_rel"] = scores.depth.metrics["abs_rel"]
                elif recording.T_right_left is not None:
                    row["abs_rel_to_matches"] = compare_folder(Predictions.open(Path(out) / recording.name), recording)
            table[f"{folder.name}{', steady' if steady else ''}"] = row
    return table


def compare_folder(predictions: Predictions, recording: Any) -> float:
    """Return the mean relative difference of predicted depth from semi-global matching, at equal medians."""
    errors = []
    for index, name in list(enumerate(predictions.files))[::5]:
        matched = match_pair_depth(
            recording.image(index), recording.image(index, RIGHT), recording.K(index), recording.T_right_left
        )
        depth = cv2.resize(np.asarray(predictions.read(name), np.float32), matched.shape[::-1])
        known = (matched > 0) & (matched < 50)
        found = depth[known] * np.median(matched[known]) / np.median(depth[known])
        errors.append(float(np.mean(np.abs(found - matched[known]) / matched[known])))
    return float(np.mean(errors))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("what", choices=("score", "adapt", "flicker", "focal"))
    parser.add_argument("--data", type=Path, default=REAL_DATA, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--run", type=Path, help="of `stadia adapt`")
    parser.add_argument("--roadworld", type=Path, help="folder of RoadWorld; its first recording is a video")
    arguments = parser.parse_args()
    data = Path(arguments.data)
    if arguments.what == "score":
        from stadia.evaluation.image_score import score_image

        predictor = open_meter(data, "kitti")
        recording = open_inputs(data / "kitti_raw")[0].recording
        assert recording is not None
        scores = []
        for index, frame in enumerate(read_frames(recording)):
            shown = PreparedFrame.prepare(predictor, frame)
            camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
            depth = 1 / predictor.inverse_depth(torch.from_numpy(shown.image)[None], camera)[0, 0].numpy()
            true_m = recording.depth_m(index)
            assert true_m is not None
            score = score_image(frame.name, depth, true_m, predictor.depth_scale, find_protocol("kitti-eigen"))
            scores.append(score.metrics if score else {})
        result: dict[str, Any] = {name: float(np.mean([row[name] for row in scores])) for name in ("abs_rel", "d1")}
    elif arguments.what == "flicker":
        result = measure_steadiness(data, arguments.roadworld)
    elif arguments.what == "focal":
        result = measure_focals(data, arguments.roadworld)
    else:
        adapted = load_predictor(arguments.run)
        meter = open_meter(data, "kitti")
        result = {
            "before_aligned": compare_with_matching(meter, data, is_metric=False),
            "after_aligned": compare_with_matching(adapted, data, is_metric=False),
        }
        if str(adapted.depth_scale) == "metres":
            result["after_in_metres"] = compare_with_matching(adapted, data, is_metric=True)
    print(json.dumps({**result, "cores": os.cpu_count()}, indent=1))


if __name__ == "__main__":
    main()
