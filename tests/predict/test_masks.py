"""`stadia masks`: written whole, resumed, refused where another made them, and read by what needs them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.batches.ledger import read_rows
from stadia.batches.video_batch import VideoResult
from stadia.core.errors import DataError
from stadia.core.progress import no_progress
from stadia.data.mask_files import CocoMasks, MaskFiles
from stadia.data.mask_objects import find_mask_boxes
from stadia.data.open_dataset import open_recordings
from stadia.predict import masks as module
from stadia.predict.masks import MasksRequest, create_mask_maker, prepare_masks
from stadia.predict.masks_batch import mask_videos
from stadia.predict.tiled_masks import TiledSegmenter

SIZE = 40, 60
CAMERA = {"camera": {"focal_px": 50.0}, "stride": 1}


@pytest.fixture
def video(tmp_path: Path, monkeypatch) -> Path:
    """A folder of 3 images; their brightness is their class."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "video"
    folder.mkdir()
    for number in range(3):
        image = np.zeros((*SIZE, 3), np.uint8)
        image[20:] = 80  # road
        image[10 + number : 25, 15:35] = 160  # car
        cv2.imwrite(str(folder / f"{number:06d}.png"), image)
    return folder


class Counting:
    def __init__(self, fail_at: int = 99) -> None:
        self.calls, self.fail_at = 0, fail_at

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls > 2 * self.fail_at:
            raise KeyboardInterrupt
        return (tile[..., 0].astype(int) + 40) // 80


def by(monkeypatch, network: Counting, identity: str = "seen 1") -> None:
    monkeypatch.setattr(
        module, "load_tflite_model", lambda path: TiledSegmenter(network, 40, ("road", "car"), 1, identity)
    )


def test_a_video_gets_its_masks_a_sheet_and_a_reader_that_finds_them(video, tmp_path, monkeypatch):
    by(monkeypatch, Counting())
    lines = list(prepare_masks(MasksRequest(source=video, by="a.tflite", out=tmp_path / "out", options=CAMERA)))
    assert any("masks of 3 frames, 3 new" in line for line in lines)
    assert any("1.0 objects on average, 0.0 whole and 20 px high" in line for line in lines)
    assert cv2.imread(str(tmp_path / "out" / "sheet.png")).std() > 20
    (recording,) = open_recordings(video, **CAMERA)
    from stadia.data.mask_files import attach_masks

    attach_masks([recording], tmp_path / "out")
    masks = recording.masks(1)
    assert recording.mask_reader.classes == {1: "road", 2: "car"}
    assert (masks.semantic[11:25, 15:35] == 2).all()
    assert len(np.unique(masks.instance)) == 2


def test_many_videos_get_masks_each_by_a_network_that_is_opened_once(video, tmp_path, monkeypatch):
    opened = []
    network = TiledSegmenter(Counting(), 40, ("road", "car"), 1, "seen 1")
    monkeypatch.setattr(module, "load_tflite_model", lambda path: (opened.append(path), network)[1])
    shutil.copytree(video, tmp_path / "other")
    (tmp_path / "list.csv").write_text("video\nvideo\nother\n")
    request = MasksRequest(source=tmp_path / "list.csv", by="a.tflite", out=tmp_path / "out", options=CAMERA)
    done = mask_videos(request, no_progress, pytest.fail, workers=0, engine="local")
    assert (done.done, done.before, len(opened)) == (2, 0, 1)
    (tmp_path / "out" / "other" / "sheet.png").unlink()
    assert mask_videos(request, no_progress, pytest.fail, workers=0, engine="local").before == 1
    assert read_rows(str(tmp_path / "out"), VideoResult)[-1].frames == 3


def test_objects_of_one_network_and_the_road_of_another(video, tmp_path, monkeypatch):
    """Of the first one the car counts and its road does not; of the second one the road, where no car covers it."""

    def everything_is_road(tile: np.ndarray) -> np.ndarray:
        return np.ones(tile.shape[:2], int)

    networks = {
        "a.tflite": TiledSegmenter(Counting(), 40, ("road", "car"), 1, "first"),
        "b.tflite": TiledSegmenter(everything_is_road, 40, ("road",), 1, "second"),
        "c.tflite": TiledSegmenter(everything_is_road, 40, ("sky",), 1, "third"),
    }
    monkeypatch.setattr(module, "load_tflite_model", lambda path: networks[path.name])
    request = MasksRequest(source=video, by="a.tflite", road_by="b.tflite", out=tmp_path / "out", options=CAMERA)
    lines = list(prepare_masks(request))
    assert any("by first with the road of second" in line for line in lines)
    masks = MaskFiles(tmp_path / "out").read("000001", "left", height=40, width=60)
    names = np.vectorize(MaskFiles(tmp_path / "out").classes.get)(masks.semantic)
    assert (names[11:25, 15:35] == "car").all()
    assert (names[:11] == "road").all()
    assert (names[25:] == "road").all()
    with refuses(DataError, where="--road-by"):
        list(prepare_masks(replace(request, road_by="c.tflite", out=tmp_path / "other")))
    assert not (tmp_path / "other").exists()


def test_refused_inputs_leave_no_folder(video, tmp_path, monkeypatch):
    """Neither masks of other images, nor images that cannot be read, nor heights that are missing."""
    (tmp_path / "others" / "semantic" / "left").mkdir(parents=True)
    (tmp_path / "others" / "classes.json").write_text('{"1": "road"}')
    cv2.imwrite(str(tmp_path / "others" / "semantic" / "left" / "another.png"), np.ones(SIZE, np.uint8))
    request = MasksRequest(source=video, by=str(tmp_path / "others"), out=tmp_path / "out", options=CAMERA)
    with refuses(DataError, where="others", found="video/video"):
        list(prepare_masks(request))
    by(monkeypatch, Counting())
    with refuses(DataError, where="gone.safetensors"):
        list(prepare_masks(replace(request, by="a.tflite", heights=tmp_path / "gone.safetensors")))
    (video / "000000.png").write_bytes((video / "000000.png").read_bytes()[:90])
    with refuses(DataError, where="000000.png"):
        list(prepare_masks(replace(request, by="a.tflite")))
    assert not (tmp_path / "out").exists()


def test_masks_by_another_model_or_of_other_images_are_not_mixed(video, tmp_path, monkeypatch):
    out = tmp_path / "out"
    by(monkeypatch, Counting())
    list(prepare_masks(MasksRequest(source=video, by="a.tflite", out=out, options=CAMERA)))
    by(monkeypatch, Counting(), "seen 2")
    with refuses(DataError, where="out", expected="2"):
        list(prepare_masks(MasksRequest(source=video, by="a.tflite", out=out, options=CAMERA)))
    by(monkeypatch, Counting())
    cv2.imwrite(str(video / "000002.png"), np.full((*SIZE, 3), 7, np.uint8))
    with refuses(DataError, where="out"):
        list(prepare_masks(MasksRequest(source=video, by="a.tflite", out=out, options=CAMERA)))


def coco(path: Path, annotations: list[dict], size: tuple[int, int] = SIZE) -> Path:
    images = [{"id": 5, "file_name": "cam/000001.png", "height": size[0], "width": size[1]}]
    categories = [{"id": 3, "name": "Car"}, {"id": 80, "name": "road"}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return path


ROAD = {"image_id": 5, "category_id": 80, "segmentation": [[0, 20, 60, 20, 60, 40, 0, 40]]}
CAR = {"image_id": 5, "category_id": 3, "segmentation": [[15, 10, 35, 10, 35, 25, 15, 25]]}


def test_a_coco_file_of_polygons_and_runs(video, tmp_path):
    counts = np.zeros((60, 40), bool)  # column after column
    counts[15:35, 10:25] = True
    flat = counts.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    by_runs = CAR | {"segmentation": {"counts": runs, "size": list(SIZE)}}
    for car in (CAR, by_runs):
        masks = CocoMasks(coco(tmp_path / "own.json", [car, ROAD])).read("000001", "left", height=40, width=60)
        assert (masks.semantic[10:25, 15:35] == 1).all()
        assert (masks.semantic[26:, :] == 2).all()
        assert not masks.semantic[:9].any()
        assert masks.instance[12, 20] != 0
        assert not masks.instance[26:].any(), "an annotated road is no object"
        (box,) = find_mask_boxes(masks, {1: "car", 2: "road"}, margin_px=0)
        assert not box.hidden, "a car stands on its road, not behind it"
    lines = list(
        prepare_masks(MasksRequest(source=video, by=str(tmp_path / "own.json"), out=tmp_path / "out", options=CAMERA))
    )
    assert any("masks of 1 frames" in line for line in lines)
    assert any("2 frames have no masks" in line for line in lines)


@pytest.mark.parametrize(
    ("annotation", "size", "names"),
    [
        (CAR | {"category_id": 9}, SIZE, ("category_id", "9")),
        (CAR | {"segmentation": [[1, 2, 3, 4]]}, SIZE, ("4",)),
        (CAR | {"segmentation": {"counts": [7, 3], "size": list(SIZE)}}, SIZE, ("10",)),
        (CAR | {"segmentation": {"counts": "52M", "size": list(SIZE)}}, SIZE, ("4",)),
        (CAR, (40, 90), ("90x40",)),
        ({"image_id": 5}, SIZE, ("category_id",)),
    ],
)
def test_invalid_coco_file_is_reported(tmp_path, annotation, size, names):
    with refuses(DataError, names=names):
        CocoMasks(coco(tmp_path / "own.json", [annotation], size)).read("000001", "left", height=40, width=60)


@pytest.mark.slow
def test_size_prior_writes_car_heights(video, tmp_path, monkeypatch):
    from stadia.networks.size_prior import SizePrior, save_size_prior

    save_size_prior(SizePrior(1.47, side=32), tmp_path / "prior.safetensors")
    by(monkeypatch, Counting())
    list(
        prepare_masks(
            MasksRequest(
                source=video,
                by="a.tflite",
                out=tmp_path / "out",
                options=CAMERA,
                heights=tmp_path / "prior.safetensors",
            )
        )
    )
    heights = json.loads((tmp_path / "out" / "heights.json").read_text())
    assert [list(of_frame) for of_frame in heights.values()] == [["1"]] * 3
    assert heights["left/000001"]["1"][0] == 1.47


SQUARE = [[4, 4], [20, 4], [20, 20], [4, 20]]


@pytest.mark.parametrize("program", ["labelme", "VIA", "CVAT", "Supervisely", "Label Studio"])
def test_polygons_of_annotation_programs(program: str, tmp_path: Path) -> None:
    corners = {"name": "polygon", "all_points_x": [4, 20, 20, 4], "all_points_y": [4, 4, 20, 20]}
    texts = {
        "labelme": ("labels/a.json", json.dumps({"shapes": [{"label": "Car", "points": SQUARE},
                                                            {"label": "Car", "points": [[30, 4], [38, 20]]}],
                                                 "imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 60})),
        "Supervisely": ("labels/a.jpg.json", json.dumps({"size": {"height": 40, "width": 60}, "objects": [
            {"classTitle": "Car", "geometryType": "polygon", "points": {"exterior": SQUARE}},
            {"classTitle": "Car", "geometryType": "rectangle", "points": {"exterior": [[30, 4], [38, 20]]}}]})),
        "Label Studio": ("project.json", json.dumps([{"data": {"image": "/upload/0f3c9a1b-a.jpg"}, "annotations": [
            {"result": [{"original_width": 60, "original_height": 40, "value": {"polygonlabels": ["Car"], "points": [
                [x / 0.6, y / 0.4] for x, y in corners]}} for corners in (SQUARE, ((30, 4), (38, 20)))]}]}])),
        "VIA": ("via.json", json.dumps({"a.jpg12": {"filename": "a.jpg", "regions": {
            "0": {"shape_attributes": corners, "region_attributes": {"name": "Car"}},
            "1": {"shape_attributes": {"name": "rect", "x": 30, "y": 4, "width": 8, "height": 16},
                  "region_attributes": {"name": "Car"}}}}})),
        "CVAT": ("a.xml", '<annotations><image name="a.jpg" width="60" height="40"><polygon label="Car" '
                          'points="4,4;20,4;20,20;4,20"/><box label="Car" xtl="30" ytl="4" xbr="38" ybr="20"/></image>'
                          "</annotations>"),
    }  # fmt: skip
    path = tmp_path / texts[program][0]
    path.parent.mkdir(exist_ok=True)
    path.write_text(texts[program][1])
    is_folder = path.parent.name == "labels"
    maker = create_mask_maker(str(path.parent if is_folder else path))
    assert list(maker.classes.values()) == ["car"]
    masks = CocoMasks(path.parent if is_folder else path).read("a", "left", height=40, width=60)
    assert masks is not None
    assert [int((masks.instance == number).sum()) for number in (1, 2)] == [17 * 17, 9 * 17]  # with both edges
