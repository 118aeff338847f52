"""Make the examples of the app's first page, with their depth by `base`: a photo, and pictures of the synthetic worlds.

python -m website.app_examples
python -m website.app_examples --walk deep-video-mvs/sample-data/hololens-dataset/000  # the photo; a clone, MIT
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from stadia.objectpose.config import TableWorldConfig
from stadia.objectpose.table_world import TableRenderer, make_table
from stadia.synthetic.config import RoadWorldConfig
from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world
from stadia.synthetic.roadworld.street_scene import SemanticClass
from stadia.web import server
from stadia.web.decoding import find_field_of_view, shrink_image
from stadia.web.networks import load_network
from stadia.web.photo import choose_camera, color_prediction, predict_photo

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
# isort: split
from room_worlds import RoomRenderer, RoomWorldConfig, make_room

SIZE, THUMB = (600, 800), (320, 240)
ONE: dict[str, Any] = {"train": 1, "val": 0, "test": 0, "height": SIZE[0], "width": SIZE[1]}
FOLDER: Path = server.STATIC / "examples"
EXIF_FOLDER, FOCAL_35_MM, SENSOR_MM = 0x8769, 0xA405, 36.0
"""Width of the sensor of EXIF's equivalent focal length, mm (the first two: tags of EXIF)."""

NIGHT_SHARE, NIGHT_NOISE = 0.3, 4.0
PEOPLE_SEED = 13

Image = NDArray[np.uint8]


def make_road(seed: int, height_m: float = 1.6, pitch_deg: tuple[float, float] | None = None) -> RoadRenderer:
    """Return the renderer of a road of eight frames."""
    config = RoadWorldConfig(
        **ONE, frames=8, stereo=False, field_of_view_deg=(65,), camera_height_m=(height_m,), pitch_deg=pitch_deg
    )
    return RoadRenderer(make_world(seed, config), config)


def render_people() -> Image:
    """Render pedestrians: the camera stands 4 m from the one with most others near."""
    road = make_road(PEOPLE_SEED)
    places = [
        (instance.T_world_instance[0] if instance.moves else instance.T_world_instance)[:3, 3]
        for instance in road.world.geometry.instances
        if instance.semantic == SemanticClass.PERSON
    ]
    near = [sum(bool(np.linalg.norm(place - other) < 9) for other in places) for place in places]
    target = places[int(np.argmax(near))]
    drive = road.world.drive.T_world_camera
    forward = drive[0][:3, 2] * (1, 0, 1)
    forward /= np.linalg.norm(forward)
    down = np.array([0.0, 1, 0])
    drive[0][:3, :3] = np.stack([np.cross(down, forward), down, forward], axis=1)
    drive[0][:3, 3] = target - 4.0 * forward + 0.6 * np.cross(down, forward) - 1.5 * down
    return road.render(0)["left"].image


def darken(image: Image) -> Image:
    """Return an image as a camera sees it at night: dark, bluish and noisy."""
    dark = 255 * (image / 255.0) ** 1.5 * NIGHT_SHARE * (0.8, 0.9, 1.25)
    return np.clip(dark + np.random.default_rng(0).normal(0, NIGHT_NOISE, image.shape), 0, 255).astype(np.uint8)


def render_examples() -> Iterator[tuple[str, Image]]:
    """Yield name and image (H, W, 3) RGB of each example."""
    room = RoomWorldConfig(
        frames=3, height=SIZE[0], width=SIZE[1], noise=False, field_of_view_deg=(65, 75), camera_height_m=(1.3, 1.6)
    )
    yield "indoors", RoomRenderer(make_room(6, room), room).render(1).image
    yield "street", make_road(4).render(4)["left"].image
    yield "drone", make_road(5, 28, (-40, -28)).render(4)["left"].image
    yield "people", render_people()
    table = TableWorldConfig(**ONE)
    yield "desk", TableRenderer(make_table(5, table), table).render(0).image
    yield "night", darken(make_road(3).render(4)["left"].image)


def write_photo(walk: Path) -> None:
    """Write the photo of the first page with the focal length of its camera, a thumbnail, and its depth.

    walk: the recording 000 of the HoloLens data of github.com/ardaduz/deep-video-mvs.
    """
    image = np.asarray(Pictures.open(walk / "images" / "00064.png").convert("RGB"))
    focal = float(np.loadtxt(walk / "K.txt")[0, 0]) / image.shape[1]
    exif = Pictures.Exif()
    exif[EXIF_FOLDER] = {FOCAL_35_MM: round(SENSOR_MM * focal)}
    Pictures.fromarray(image).save(FOLDER / "table.jpg", quality=92, exif=exif)
    camera = choose_camera(None, find_field_of_view(FOLDER / "table.jpg", *image.shape[:2]), (), *image.shape[:2])
    drawn = color_prediction(predict_photo(load_network("base"), image, camera))
    Pictures.fromarray(drawn).save(FOLDER / "table-depth.jpg", quality=85)
    Pictures.fromarray(shrink_image(image, THUMB[0])).save(FOLDER / "table-small.jpg", quality=85)


def main() -> None:
    """Write each picture, and thumbnails of it and of its depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walk", type=Path)
    walk = parser.parse_args().walk
    FOLDER.mkdir(exist_ok=True)
    if walk is not None:
        write_photo(walk)
        return
    network = load_network("base")
    for name, image in render_examples():
        prediction = predict_photo(network, image, choose_camera(None, None, (), *image.shape[:2]))
        for suffix, shown, size in (
            ("", image, SIZE[::-1]),
            ("-small", image, THUMB),
            ("-depth", color_prediction(prediction), THUMB),
        ):
            small = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(FOLDER / f"{name}{suffix}.jpg"), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        print(name, prediction.checks["verdict"])


if __name__ == "__main__":
    main()
