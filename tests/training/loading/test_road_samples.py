"""Masks of road and objects: read from their layout, cleaned, and changed together with the image."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stadia.core.types import Recording, RoadMasks
from stadia.data.config import AugmentationConfig, CacheConfig, ColorConfig, TiltConfig
from stadia.data.height_priors import PRIORS, RoadConfig
from stadia.data.mask_files import clean_masks, measure_occlusion
from stadia.data.open_dataset import open_recordings
from stadia.differentiable.batch import RoadTargets
from stadia.training.loading.road_samples import RoadSamples, number_camera_groups
from stadia.training.loading.samples import VideoSamples

HEIGHT, WIDTH = 96, 160  # of the images of `world`
CLASSES = {0: "sky", 7: "Road", 26: "car", 24: "person", 28: "bus"}
CAR, VAN, FOOT = (slice(40, 60), slice(30, 50)), (slice(36, 60), slice(90, 110)), (slice(50, 60), slice(0, 12))
NO_COLOR = ColorConfig(probability=0)


def numbers() -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Road below row 48, two cars, numbers 3 and 700, and one at the left edge, number 5."""
    semantic, instance = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
    semantic[48:] = 7
    for place, number in ((CAR, 3), (VAN, 700), (FOOT, 5)):
        semantic[place], instance[place] = 26, number
    return semantic, instance


def write_masks(folder: Path, semantic: NDArray[Any], instance: NDArray[Any] | None, stems: tuple[str, ...]) -> Path:
    for kind, values in (("semantic", semantic), ("instance", instance)):
        if values is not None:
            (folder / kind / "left").mkdir(parents=True, exist_ok=True)
            for stem in stems:
                cv2.imwrite(str(folder / kind / "left" / f"{stem}.png"), values)
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    return folder


@pytest.fixture
def recording(tmp_path: Path, world: Any) -> Recording:
    folder = world.recording(tmp_path / "a", 5)
    write_masks(folder / "masks", *numbers(), tuple(f"{i:06d}" for i in range(5)))
    return open_recordings(folder)[0]


def samples(
    recording: Recording, config: RoadConfig | None = None, *, cache: bool = True, **changes: Any
) -> RoadSamples:
    config = config or RoadConfig(priors="kitti")
    images = VideoSamples([recording], **({"height": HEIGHT, "width": WIDTH, "stereo": False} | changes))
    return RoadSamples(
        images, config, number_camera_groups([recording], config), cache=CacheConfig() if cache else None
    )


def targets_of(samples: RoadSamples, index: int = 1) -> RoadTargets:
    batch = samples.unpack(samples.stack([samples.packed((0, index))]))
    assert isinstance(batch.targets, RoadTargets)
    return batch.targets


def paint(folder):
    semantic, instance = numbers()
    painted = np.stack([(semantic == 7) * 255, (instance == 3) * 255, (instance == 700) * 255], -1).astype(np.uint8)
    for index in range(5):
        cv2.imwrite(str(folder / f"{index:06d}.png"), painted[..., ::-1])


def test_masks_of_an_image_are_its_targets(recording):
    targets = targets_of(samples(recording))
    assert targets.road.shape == targets.objects.shape == (1, 1, HEIGHT, WIDTH)
    assert targets.road.dtype == torch.bool
    assert targets.objects.dtype == torch.int16
    assert targets.road[0, 0, 70].all()
    assert not targets.road[0, 0, :48].any()
    assert not targets.road[0, 0][CAR].any()
    assert (targets.objects[0, 0][CAR] == 1).all()
    assert (targets.objects[0, 0][VAN] == 2).all()
    assert targets.objects.max() == 2, "the car at the edge is cut, and none"
    names = samples(recording).classes
    assert [names[i] for i in targets.object_class[0]] == ["car", "car"]
    assert targets.object_height_m[0].tolist() == pytest.approx([PRIORS["kitti"]["car"].mean_m] * 2)
    assert targets.camera_group.tolist() == [0]


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (64, 96)])
def test_masks_mirror_zoom_and_resize_with_the_image(recording, size, tmp_path, world):
    """The image is painted with its own masks, so that whatever happens to one must have happened to the other."""
    paint(tmp_path / "a" / "left")
    change = AugmentationConfig(mirror=0.5, color=NO_COLOR, zoom=1.3)
    config = RoadConfig(priors="kitti", border_px=0)
    made = samples(
        open_recordings(tmp_path / "a")[0], config, height=size[0], width=size[1], augmentation=change, cache=False
    )
    for epoch in range(12):
        batch = made.unpack(made.stack([made.packed((epoch, 1))]))
        picture, targets = batch.inputs.image[0], batch.targets
        for channel, mask in enumerate((targets.road[0, 0], targets.objects[0, 0] > 0)):
            shown = picture[0] > 0.5 if channel == 0 else picture[1:].max(dim=0).values > 0.5
            wrong = (shown != mask) & ~((targets.objects[0, 0] > 0) & (picture.max(dim=0).values < 0.5))
            assert wrong.float().mean() < 0.03, f"epoch {epoch}, {('road', 'objects')[channel]}"


def test_objects_that_camera_height_rejected_and_frames_with_few_have_no_height(recording, tmp_path):
    name = f"{recording.name}/000002"
    rejected = {"frame": name, "number": 700, "verdict": "disagrees with the others"}
    cut = {"frame": name, "number": 3, "verdict": "touches the border"}
    file = tmp_path / "camera_height.json"
    file.write_text(json.dumps({"format": "stadia-camera-height", "each": [rejected, cut]}))
    verdicts = RoadConfig(priors="kitti", verdicts=str(file))
    assert targets_of(samples(recording, verdicts)).object_height_m[0].isfinite().tolist() == [True, False]
    assert targets_of(samples(recording, verdicts), 0).object_height_m[0].isfinite().all(), "another frame"
    by_depth = {"number": 3, "metres_over_unit": 2.0, "accepted": False}
    frames = [{"recording": recording.name, "frame": "000002", "objects": [by_depth]}]
    second = tmp_path / "by_depth.json"
    second.write_text(json.dumps({"format": "stadia-camera-height", "frames": frames}))
    measured = RoadConfig(priors="kitti", verdicts=str(second))
    assert targets_of(samples(recording, measured)).object_height_m[0].isfinite().tolist() == [False, True]
    few = RoadConfig(priors="kitti", verdicts=str(file), min_objects=2)
    assert targets_of(samples(recording, few)).object_height_m.isnan().all()


def test_masks_tilt_with_the_image_and_tilted_objects_have_no_height(recording, tmp_path):
    paint(tmp_path / "a" / "left")
    tilt = TiltConfig(probability=1, roll_deg=10)
    change = AugmentationConfig(mirror=0.5, color=NO_COLOR, zoom=1.2, tilt=tilt)
    config = RoadConfig(priors="kitti", border_px=0)
    made = samples(open_recordings(tmp_path / "a")[0], config, augmentation=change, cache=False)
    for epoch in range(6):
        batch = made.unpack(made.stack([made.packed((epoch, 1))]))
        picture, targets = batch.inputs.image[0], batch.targets
        counted = ~targets.ignored[0, 0]
        wrong = ((picture[0] > 0.5) != targets.road[0, 0]) & ~(targets.objects[0, 0] > 0) & counted
        assert (wrong & (picture[1:].max(dim=0).values < 0.5)).float().mean() < 0.03
        assert targets.object_height_m.isnan().all()
    assert targets.objects.max() > 0


def test_largest_component_is_kept_and_small_objects_are_removed():
    semantic, instance = numbers()
    instance[80:84, 140:144] = 3  # a fragment far away
    instance[70:72, 60:64], semantic[70:72, 60:64] = 9, 26
    semantic[40:44, 30:34] = 24  # some of the car is called a person
    found = clean_masks(RoadMasks(semantic, instance), RoadConfig(min_object_share=0.002))
    assert set(np.unique(found.instance)) == {0, 3, 5, 700}
    assert not found.instance[80:84, 140:144].any()
    assert (found.semantic[CAR] == 26).all()


def test_an_object_behind_a_nearer_one_is_left_out():
    semantic, instance = numbers()
    place = (slice(38, 70), slice(24, 44))  # covers most of the car, and stands nearer
    semantic[place], instance[place] = 26, 4
    masks = RoadMasks(semantic, instance)
    assert measure_occlusion(instance, 3) > 0.3
    assert measure_occlusion(instance, 4) == 0
    assert 3 not in clean_masks(masks, RoadConfig()).instance
    assert 3 in clean_masks(masks, RoadConfig(max_occlusion=1.0)).instance
