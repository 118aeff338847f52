r"""Collect the textures of `shape_worlds.py` in one file: photographs of Debian packages, and procedural ones.

    python experiments/world_textures.py --out runs/base/textures.npz [--side 256]

The packages are fetched by `apt-get download` and unpacked beside the file; nothing is installed. 0ad-data (textures of
terrain, walls, plants and skies) is CC-BY-SA-3.0; the photographs of gnome-backgrounds and lomiri-wallpapers-20.04
are CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-4.0 or CC0. No texture is part of the project or of the weights.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from room_worlds import make_picture, make_wallpaper

from stadia.core.seeds import make_generator
from stadia.synthetic import household_objects as table_objects
from stadia.synthetic.rendering.surfaces import Texture, make_plain_texture
from stadia.synthetic.roadworld import road_textures

PACKAGES = ("0ad-data", "gnome-backgrounds", "lomiri-wallpapers-20.04")
GROUPS = ("ground", "wall", "plant", "sky", "photograph", "facade", "asphalt", "cloth", "wood", "print", "plain")
"""Kinds of textures: an object draws its own from one or several of them."""

Pixels = NDArray[np.uint8]


def make_asphalt(random: np.random.Generator) -> Texture:
    """Make grey asphalt or concrete, with stains."""
    grey = float(random.uniform(0.05, 0.45))
    return make_plain_texture(random, (grey, grey, grey * float(random.uniform(0.85, 1.1))), 0.25, 2.0)


PROCEDURAL = {
    "facade": (road_textures.make_facade, 90),
    "asphalt": (make_asphalt, 30),
    "plant": (road_textures.make_foliage, 40),
    "cloth": (table_objects.make_cloth, 50),
    "wood": (table_objects.make_wood, 40),
    "print": (table_objects.make_label, 50),
    "plain": (table_objects.make_paint, 40),
    "wall": (make_wallpaper, 60),
    "photograph": (make_picture, 60),
    "ground": (table_objects.make_tiles, 40),
}
"""Group -> (function of a generator, number of textures)."""


def unpack_packages(folder: Path) -> None:
    """Fetch and unpack the packages that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not (folder / package).is_dir():
            if not (archives := sorted(folder.glob(f"{package}_*.deb"))):
                subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
                archives = sorted(folder.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg", "-x", str(archives[0]), str(folder / package)], check=True)


def fit_square(image: Pixels, side: int) -> Pixels:
    """Return the middle square of (H, W, 3), resized to (side, side, 3)."""
    height, width = image.shape[:2]
    n = min(height, width)
    top, left = (height - n) // 2, (width - n) // 2
    return np.asarray(cv2.resize(image[top : top + n, left : left + n], (side, side), interpolation=cv2.INTER_AREA))


def read_game_textures(folder: Path, side: int) -> Iterator[tuple[str, Pixels]]:
    """Yield group and image of the textures of 0ad-data that show a surface: no normal maps, no masks."""
    archive = zipfile.ZipFile(next((folder / "0ad-data").rglob("public.zip")))
    places = {"terrain/types": "ground", "skins/structural": "wall", "skins/gaia": "plant", "skies": "sky"}
    for name in sorted(archive.namelist()):
        group = next((group for place, group in places.items() if f"art/textures/{place}/" in name), None)
        if group is None or not name.endswith(".dds") or name.endswith("top.dds.cached.dds"):
            continue
        if any(word in name for word in ("norm", "spec", "_ao", "mask", "heightmap")):
            continue
        try:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGBA")
        except (OSError, NotImplementedError):
            continue
        pixels = np.asarray(image)
        if min(pixels.shape[:2]) < 128 or (group != "sky" and (pixels[..., 3] < 16).mean() > 0.5):
            continue
        if pixels[..., :3].std() > 4:
            yield group, fit_square(pixels[..., :3], side)


def read_photographs(folder: Path, side: int, crops: int = 6) -> Iterator[tuple[str, Pixels]]:
    """Yield crops of the photographs of the other packages, each at another scale."""
    for package in PACKAGES[1:]:
        for path in sorted((folder / package).rglob("*")):
            if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
                continue
            image = np.asarray(Image.open(path).convert("RGB"))
            random = make_generator(0, "photograph", path.name)
            if min(image.shape[:2]) < 600 or image.std() < 20:
                continue
            for _ in range(crops):
                n = int(min(image.shape[:2]) * random.uniform(0.25, 1.0))
                top, left = random.integers(image.shape[0] - n + 1), random.integers(image.shape[1] - n + 1)
                yield "photograph", fit_square(image[top : top + n, left : left + n], side)


def make_procedural(side: int) -> Iterator[tuple[str, Pixels]]:
    """Yield the textures that the rendered worlds have, in sRGB."""
    for group, (make, count) in PROCEDURAL.items():
        for index in range(count):
            texture: Texture = make(make_generator(0, "procedural", group, index))
            linear = np.clip(texture.image, 0, 1)
            srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
            yield group, cv2.resize((255 * srgb).astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/base/textures.npz"))
    parser.add_argument("--packages", type=Path, help="a folder with the packages; by default beside --out")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG files within the file")
    arguments = parser.parse_args()
    if arguments.out.is_file():
        print(f"{arguments.out} is there")
        return
    folder = arguments.packages or arguments.out.parent / "packages"
    unpack_packages(folder)
    groups, files = [], []
    for read in (
        read_game_textures(folder, arguments.side),
        read_photographs(folder, arguments.side),
        make_procedural(arguments.side),
    ):
        for group, pixels in read:
            encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, arguments.quality])[1]
            groups.append(GROUPS.index(group))
            files.append(encoded)
    ends = np.cumsum([len(file) for file in files])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.out, group=np.array(groups, np.uint8), end=ends, jpeg=np.concatenate(files))
    counts = {name: groups.count(index) for index, name in enumerate(GROUPS)}
    print(f"{arguments.out}: {len(files)} textures, {arguments.out.stat().st_size / 1e6:.1f} MB, {counts}")


if __name__ == "__main__":
    main()
