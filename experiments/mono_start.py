"""Train clips of one camera in some steps from the network `base`, and from ImageNet's encoder, and score both.

    python experiments/mono_start.py --out runs/mono-start [--clips kitti06 highway] [--steps 150] [--masks-by MODEL]
        [KEY=VALUE ...]

Each clip is what a user has: a folder of images or a video file, with its camera and, where `stadia map` makes one, its
map. A row has AbsRel with equal medians of every image, of `base` before and of the best checkpoint after the training,
and the verdict on the predictions of the clip. Truth: LiDAR, a depth camera, rendering, or semi-global matching of the
stereo pair, whose right images do not train; on the highway the lanes. EuRoC is refused: its camera stands. With
`--masks-by` the map leaves out what moves (`stadia masks VIDEO --by MODEL`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from zero_shot import GARG, Sample, predict_depth, score_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.core.errors import StadiaError
from stadia.core.types import Predictor, Recording, no_progress
from stadia.data.config import CameraConfig
from stadia.data.open_dataset import open_recordings
from stadia.data.video.video_map import find_map, find_map_geometry
from stadia.io.image_io import write_image
from stadia.predict.inputs import open_inputs
from stadia.predict.masks import MasksRequest, prepare_masks
from stadia.predict.verdict import PredictionGate, observe_frames, read_training_record
from stadia.sfm.map_video import map_video
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.roadworld_writer import write_roadworld
from stadia.training import train
from stadia.training.loop.checkpoint import open_checkpoint
from stadia.training.recipes import configure, load_predictor
from stadia.training.recipes.base.build_recipe import open_network_checkpoint
from stadia.training.recipes.base.config import make_paths_absolute

SETTINGS = (
    *("model.pose_net=correlation", "model.translation_scale=0.2", "loss.pyramid=4", "loss.temporal_from_step=null"),
    *("optimizer.lr=1e-3", "schedule.warmup_steps=10", "training.max_epochs=null", "training.batch_size=2"),
    *("training.clip_norm=1.0", "training.workers=0", "training.threads=1", "training.check_seconds=0"),
    *("training.images_every=0", "training.log_every=10"),
)
STARTS = {
    "base": ("model.network=base",),
    "imagenet": (
        *("model.network=unet", "model.network.encoder=tf_efficientnet_lite0", "model.network.scales=1"),
        *("model.network.decoder_channels=8,16,24,32,64", "loss.auto_mask_from_step=100"),
    ),
}
SIZES = {"highway": (128, 224), "kitchen": (128, 160), "euroc": (128, 192)}
"""Height and width of the network's images; of the others 96x320."""

ROAD_SEED = 4711
"""Of the world whose video is a clip: no world that trained `base`."""


@dataclass(frozen=True)
class Clip:
    """video: path of it.  K: (3, 3) of its images.  recording: with the truth; None on the highway."""

    name: str
    video: Path
    K: np.ndarray
    recording: Recording | None
    sample: Sample | None


SAMPLES = {
    "kitti06": Sample("KITTI 06", "kitti_odometry", 5, "semi-global matching", GARG),
    "raw": Sample("KITTI raw", "kitti_raw", 3, "LiDAR", GARG),
    "euroc": Sample("EuRoC V1_01", "euroc", 6, "semi-global matching"),
    "kitchen": Sample("7-Scenes kitchen", "sevenscenes/kitchen", 4, "depth camera"),
    "road": Sample("RoadWorld", "", 5, "rendered"),
}
CLIPS = ("highway", *SAMPLES)


def make_clip(name: str, folder: Path) -> Clip:
    """Write the images of a clip, once."""
    if name == "highway":
        K = np.array([[866, 0, 481.0], [0, 866, 269.5], [0, 0, 1]])
        video = folder / "highway.mp4"
        if not video.exists():
            video.symlink_to((REAL_DATA / "clips" / "highway.mp4").resolve())
        return Clip(name, video, K, None, None)
    sample = SAMPLES[name]
    source = REAL_DATA / sample.folder
    if name == "road":
        source = folder / "roadworld"
        if not source.exists():
            config = RoadWorldConfig(train=1, val=0, test=0, frames=60, height=192, width=640, stereo=False)
            write_roadworld(config, source, seed=ROAD_SEED)
    (recording, *_) = open_recordings(source)
    video = folder / name
    if not video.exists():
        video.mkdir()
        for index in range(len(recording)):
            write_image(video / f"{index:06d}.png", recording.image(index))
    return Clip(name, video, recording.camera(0).K, recording, sample)


def make_map(clip: Clip, masks_by: str | None) -> str:
    """Map a clip where it can be, once; return what the map is."""
    if find_map(clip.video) is None:
        masks = None
        if masks_by is not None:
            masks = clip.video.with_name(f"{clip.video.stem}-masks")
            [*prepare_masks(MasksRequest(source=clip.video, by=masks_by, out=masks), no_progress)]
        with contextlib.suppress(StadiaError):
            camera = CameraConfig(K=clip.K.tolist())
            map_video(clip.video, camera=camera, masks=masks)
    mapped = find_map(clip.video)
    return "none" if mapped is None else f"{sum(s != 'lost' for s in mapped.status)} of {len(mapped.status)} frames"


def score_lane(predictor: Predictor, clip: Clip) -> float:
    """Return AbsRel of the camera's own lane on the highway, 7 to 40 m ahead, with equal medians."""
    focal, height, horizon, center = 866.0, 1.23, 305.0, 481.0
    z, x = (a.ravel() for a in np.meshgrid(np.arange(7, 40, 0.25), np.arange(-1.5, 1.51, 0.1), indexing="ij"))
    rows, columns = horizon + focal * height / z, center + focal * x / z
    errors = []
    for number, frame in enumerate(open_inputs(clip.video, camera={"K": clip.K.tolist()})[0].frames):
        if number % 5:
            continue
        depth = predict_depth(predictor, frame)
        found = depth[np.clip(rows.astype(int), 0, len(depth) - 1), np.clip(columns.astype(int), 0, depth.shape[1] - 1)]
        errors.append(np.mean(np.abs(found * np.median(z / found) - z) / z))
    return float(np.mean(errors))


def score(predictor: Predictor, clip: Clip) -> float:
    """Return AbsRel with equal medians."""
    if clip.recording is None or clip.sample is None:
        return score_lane(predictor, clip)
    return score_sample(clip.sample, predictor, clip.recording).scaled


def judge(run: Path, predictor: Predictor, clip: Clip) -> str:
    """Return the verdict on the predictions of a clip, and its codes."""
    given = open_inputs(clip.video, camera={"K": clip.K.tolist()})[0]
    gate = PredictionGate(
        predictor.depth_scale,
        read_training_record(open_checkpoint(run)),
        mapped=find_map_geometry(clip.video, skip_damaged=True),
    )
    for _ in observe_frames(gate, predictor, given.frames):
        pass
    judged = gate.judge()
    return " ".join([str(judged.verdict), *(finding.code for finding in judged.findings)])


def measure(clip: Clip, start: str, steps: int, out: Path, settings: Sequence[str]) -> str:
    """Train a clip, and return its row."""
    height, width = SIZES.get(clip.name, (96, 320))
    data = {"path": str(clip.video), "camera": {"K": clip.K.tolist()}, "height": height, "width": width}
    words = [*SETTINGS, f"training.max_steps={steps}", *STARTS[start], *settings]
    config = make_paths_absolute(configure("selfsup", words, data=data, name=f"{clip.name}-{start}"))
    began = time.process_time()
    try:
        run = train(config, out=out, on_stop="warn")
    except StadiaError as error:
        return f"| {clip.name} | {start} | refused: {error} |"
    spent_s = time.process_time() - began
    after = load_predictor(run.folder)
    before = load_predictor(open_network_checkpoint("base", lambda: (height, width)))
    step = open_checkpoint(run.folder).header.step
    cells = [clip.name, start, f"{spent_s:.0f}", f"{step} of {steps}", f"{width}x{height}"]
    cells += [f"{score(before, clip):.3f}", f"{score(after, clip):.3f}", judge(run.folder, after, clip)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs-mono-start"))
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=CLIPS)
    parser.add_argument("--starts", nargs="+", choices=tuple(STARTS), default=tuple(STARTS))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--masks-by")
    arguments, settings = parser.parse_known_args()
    folder = arguments.out / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("clip", "start", "s of processor", "best step", "size", "before", "after", "verdict")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for name in arguments.clips:
        clip = make_clip(name, folder.resolve())
        print(f"{name}: map of {make_map(clip, arguments.masks_by)}", flush=True)
        for start in arguments.starts:
            print(measure(clip, start, arguments.steps, arguments.out, settings), flush=True)


if __name__ == "__main__":
    main()
