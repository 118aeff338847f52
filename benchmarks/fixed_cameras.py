"""Move, zoom, cover and exchange fixed cameras: how often `stadia rig check` notices, and how right it measures.

    python benchmarks/fixed_cameras.py [--data FOLDER_OF_REAL_SAMPLES] [--seed 0]

Views are real photos and rendered streets of RoadWorld. Of a real photo, an inner part is the pinned view, and the
changed view is the same photo through the turned or zoomed camera. All have noise, JPEG's compression and another
brightness, and moving patches hide a part. 40 views change by .1 to 5 degrees, by .5 to 5 % of
zoom, or are exchanged, covered or mirrored. 60 views stay: noise, light, compression and moving patches alone, and
frames of EuRoC's drone before it takes off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from harness import REAL_DATA, make_parser
from numpy.typing import NDArray

from stadia.data.video.static_parts import sample_frames
from stadia.geometry.poses import so3_exp
from stadia.judge.rigs.fixed_cameras import make_background
from stadia.judge.rigs.pinned_rig import CameraVerdict, PinnedCamera, judge_camera

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

WIDTH = 640
MARGIN = 0.1
ANGLES_DEG = (0.1, 5.0)
ZOOMS = (0.005, 0.05)
FRAMES = 5
PHOTOS = (
    "tum_fr2_desk/images",
    "kitti_raw/2011_09_26/2011_09_26_drive_0000_sync/image_02/data",
    "walk/images",
    "kitti_object/training/image_2",
)
STANDING = ("euroc/V1_01_easy/mav0/cam0/data", "euroc/V1_01_easy/mav0/cam1/data")
"""Cameras of a drone that stands on the ground."""


@dataclass(frozen=True)
class View:
    """A view whose camera can turn and zoom.

    name: its name.
    render: returns the image of the camera turned by a rotation (3, 3) of its pose, and zoomed.
    K: (3, 3) intrinsics of the image.
    """

    name: str
    render: Callable[[Array, float], Image]
    K: Array


def make_photo_view(name: str, photo: Image) -> View:
    """Return the view of the inner part of a photo."""
    height, width = photo.shape[:2]
    focal_px = 0.9 * width
    K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    left, top = round(MARGIN * width), round(MARGIN * height)
    inner = K.copy()
    inner[:2, 2] -= (left, top)

    def render(R: Array, zoom: float) -> Image:
        zoomed = K.copy()
        zoomed[:2, :2] *= zoom
        H = zoomed @ R.T @ np.linalg.inv(K)
        turned = cv2.warpPerspective(photo, H, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(turned[top : height - top, left : width - left], np.uint8)

    return View(name, render, inner)


def make_world_view(seed: int) -> View:
    """Return the view of a rendered street."""
    from dataclasses import replace

    from stadia.synthetic.config import RoadWorldConfig
    from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

    config = RoadWorldConfig(
        train=1, val=0, test=0, frames=4, height=256, width=640, stereo=False, supersampling=3, frame_rate_hz=10
    )
    world = make_world(seed, config)

    def render(R: Array, zoom: float) -> Image:
        turn = np.eye(4)
        turn[:3, :3] = R
        K = world.K.copy()
        K[:2, :2] *= zoom
        poses = world.drive.T_world_camera @ turn
        turned = replace(world, K=K, drive=replace(world.drive, T_world_camera=poses))
        return np.asarray(RoadRenderer(turned, config).render(1)["left"].image, np.uint8)

    return View(f"world {seed}", render, np.asarray(world.K, np.float64))


def record(image: Image, random: np.random.Generator) -> list[Image]:
    """Return frames of a standing camera: noise, compression, another brightness, and patches that move."""
    gain, gamma = random.uniform(0.8, 1.2), random.uniform(0.85, 1.15)
    lit = 255 * (image / 255.0) ** gamma * gain
    height, width = image.shape[:2]
    patches = [(random.random(2), random.normal(size=2) * 0.2, random.integers(0, 255, 3)) for _ in range(3)]
    frames = []
    for share in np.linspace(0, 1, FRAMES):
        frame = lit + random.normal(size=image.shape) * 3
        for start, way, color in patches:
            x, y = ((start + share * way) * (width, height)).astype(int)
            frame[max(y, 0) : max(y + height // 8, 0), max(x, 0) : max(x + width // 10, 0)] = color
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(70, 96))]
        data = cv2.imencode(".jpg", frame.clip(0, 255).astype(np.uint8), quality)[1]
        frames.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8))
    return frames


def draw_turn(random: np.random.Generator, angle_deg: float) -> Array:
    """Return a rotation (3, 3) about a random axis."""
    axis = random.normal(size=3)
    return so3_exp(np.radians(angle_deg) * axis / np.linalg.norm(axis))


def judge(
    view: View, frames: Sequence[Image], random: np.random.Generator, others: Sequence[View] = ()
) -> CameraVerdict:
    """Pin a view, and judge frames of it."""
    pinned = [
        PinnedCamera(one.name, make_background(record(one.render(np.eye(3), 1.0), random)), one.K, True)
        for one in (view, *others)
    ]
    return judge_camera(pinned[0], make_background(frames), pinned)


def list_views(data: Path) -> list[View]:
    """Return real views and rendered ones."""
    views = []
    for folder in PHOTOS:
        if not (data / folder).is_dir():
            continue
        for number, photo in enumerate(sample_frames(data / folder, 3)):
            scale = WIDTH / photo.shape[1]
            sized = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else photo
            views.append(make_photo_view(f"{folder} {number}", np.asarray(sized, np.uint8)))
    return [*views, *(make_world_view(seed) for seed in range(5))]


def main() -> None:
    """Change, judge and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=REAL_DATA)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    views = list_views(given.data)
    print(f"{len(views)} views", flush=True)
    noticed, small, within = list[bool](), list[bool](), list[bool]()
    zooms, other = list[bool](), list[bool]()
    angles = np.geomspace(*ANGLES_DEG, 24)
    for number, angle_deg in enumerate(angles):
        view = views[number % len(views)]
        R = draw_turn(random, float(angle_deg))
        verdict = judge(view, record(view.render(R, 1.0), random), random)
        change, names = verdict.change, [cause.name for cause in verdict.causes]
        (noticed if angle_deg >= 0.2 else small).append("moved" in names)
        if change.rotation_deg is not None and change.angle_deg is not None:
            error_deg = abs(change.angle_deg.value - float(angle_deg))
            within.append(error_deg <= 2 * change.angle_deg.deviation)
            print(f"{view.name:40} {angle_deg:.2f} degrees: {change.angle_deg.show()} {names}", flush=True)
        else:
            print(f"{view.name:40} {angle_deg:.2f} degrees: {change.reason} {names}", flush=True)
    for number, zoom in enumerate(np.geomspace(*ZOOMS, 8)):
        view = views[(5 * number + 1) % len(views)]
        verdict = judge(view, record(view.render(np.eye(3), 1 + float(zoom)), random), random)
        zooms.append([cause.name for cause in verdict.causes] == ["zoomed"])
        if verdict.change.zoom_share is not None:
            measured = verdict.change.zoom_share
            within.append(abs(measured.value - zoom) <= 2 * measured.deviation)
            print(
                f"{view.name:40} zoom {zoom:.2%}: {measured.show(100)} {verdict.causes and verdict.causes[0].name}",
                flush=True,
            )
    for number in range(8):
        view, another = views[(3 * number) % len(views)], views[(3 * number + 4) % len(views)]
        image = view.render(np.eye(3), 1.0)
        kind = ("swapped", "covered", "mirrored", "covered")[number % 4]
        if kind == "swapped":
            image = another.render(np.eye(3), 1.0)
        elif kind == "mirrored":
            image = np.ascontiguousarray(image[:, ::-1])
        elif number % 4 == 1:
            image = image.copy()
            image[:, : image.shape[1] // 3] = 40
        else:
            image = np.full_like(image, 35)
        verdict = judge(view, record(image, random), random, [another])
        other.append(kind in [cause.name for cause in verdict.causes])
        print(f"{view.name:40} {kind}: {[cause.name for cause in verdict.causes]} {verdict.change.reason}", flush=True)
    alarms = []
    for number in range(50):
        view = views[number % len(views)]
        verdict = judge(view, record(view.render(np.eye(3), 1.0), random), random)
        alarms.append((view.name, [cause.name for cause in verdict.causes if cause.name != "exposure"]))
    for camera in STANDING:
        folder = given.data / camera
        frames = list(sample_frames(folder, 60)) if folder.is_dir() else []
        for number in range(5 if len(frames) == 60 else 0):
            pinned, later = make_background(frames[:8]), make_background(frames[10 * number + 8 :][:8])
            K = np.array([[458.0, 0, 367], [0, 458, 248], [0, 0, 1]])
            verdict = judge_camera(PinnedCamera(camera, pinned, K, True), later)
            assert not verdict.change.reason
            alarms.append((camera, [cause.name for cause in verdict.causes if cause.name != "exposure"]))
    print("alarms:", [one for one in alarms if one[1]])
    print(
        f"moved by .2 degrees or more: noticed {sum(noticed)} of {len(noticed)}; by less: {sum(small)} of {len(small)}"
    )
    print(
        f"zoomed: named {sum(zooms)} of {len(zooms)}; exchanged, covered, mirrored: named {sum(other)} of {len(other)}"
    )
    print(f"error within two deviations: {np.mean(within):.0%} of {len(within)}")
    print(f"unchanged: alarms {sum(bool(causes) for _, causes in alarms)} of {len(alarms)}")


if __name__ == "__main__":
    main()
