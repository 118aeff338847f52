"""Run real mono video through the pipeline of your own video: KITTI raw as an mp4 and as a folder of images, and
7-Scenes.

    python experiments/real_mono.py

Each is trained from random weights for a few minutes, predicted, and reported. Prints one JSON object per line: the
kept frames, the depth scale of the predictions, and how often the warped neighbor explains an image better
than the unwarped
one. With ground truth it also prints the scores that depth up to scale allows.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from stadia import recipes, report
from stadia.evaluation.io.predictions_record import Provenance, read_record
from stadia.recipes.prediction.depth_commands import predict_input
from stadia.recipes.prediction.prediction_inputs import open_inputs
from stadia.training.loggers import read_rows

RATE_HZ = 10
SETTINGS = (
    "model.encoder=mobilenetv3_small_100",
    "model.pose_encoder=mobilenetv3_small_050",
    "model.pretrained=false",
    "model.decoder_channels=[8,16,24,32,64]",
    "model.translation_scale=0.01",
    "optimizer.lr=5e-4",
    "schedule.warmup_steps=50",
    "training.max_epochs=null",
    "training.batch_size=4",
    "training.clip_norm=1.0",
)


def write_mp4(images: list[Path], path: Path) -> None:
    """Write H.264 at 10 Hz, of even size (the codec's rule: an odd last row or column is left out)."""
    first = cv2.imread(str(images[0]))
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE_HZ), options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for picture in images:
            image = cv2.imread(str(picture))[:height, :width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())


def end_to_end(name: str, path: Path, data: dict[str, Any], steps: int, out: Path) -> dict[str, Any]:
    """Train, predict, report, and return the result."""
    values = {"path": str(path), **data}
    run = recipes.train(
        recipes.configure("selfsup", (*SETTINGS, f"name={name}", f"training.max_steps={steps}"), data=values), out=out
    )
    (given,) = open_inputs(path, **{key: value for key, value in data.items() if key == "camera"})
    predicted = run.folder / "predictions" / "all"
    predict_input(recipes.load_predictor(run.folder), given, predicted, Provenance.from_checkpoint(run.folder))
    record = read_record(predicted)
    assert record is not None
    rows = [row for row in read_rows(run.metrics_csv) if row["train/loss"]]
    scores = {
        path.stem: json.loads(path.read_text()).get("metrics")
        for path in sorted((run.folder / "scores").glob("*.json"))
    }
    return {
        "name": name,
        "samples": run.facts["data"]["train_samples"],
        "photometric_first": float(rows[0]["train/term/photometric"]),
        "photometric_last": float(rows[-1]["train/term/photometric"]),
        "depth_scale": str(record.depth_scale),
        "trust": record.trust,
        "frames_predicted": len(record.entries),
        "scores": scores,
        "report": str(report.build_report(run.folder)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=real, help="folder of the real samples (STADIA_REAL_DATA)")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    arguments = parser.parse_args()

    (images,) = arguments.data.glob("kitti_raw/*/*_sync/image_02/data")
    camera = {"K": [[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]]}  # P_rect_02 of 2011_09_26
    size = {"height": 128, "width": 416}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "kitti.mp4"
        write_mp4(sorted(images.glob("*.png")), video)
        for name, path, data in (
            ("kitti-mp4", video, {"camera": camera, **size}),
            ("kitti-folder", images, {"camera": camera, "frame_rate_hz": RATE_HZ, "format": "video", **size}),
            ("sevenscenes", arguments.data / "sevenscenes" / "kitchen", {"height": 128, "width": 160}),
        ):
            print(json.dumps(end_to_end(name, path, data, arguments.steps, arguments.out)), flush=True)


if __name__ == "__main__":
    main()
