"""Object pose network: sizes, channels per class, and the combination of pixels to objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from stadia.core.types import Camera
from stadia.geometry import poses
from stadia.geometry.poses import quaternion_conjugate, quaternion_from_ray, quaternion_multiply
from stadia.geometry.segments import Segments, segments_from_instances
from stadia.objectpose.config import ObjectPoseNetConfig
from stadia.objectpose.instances import center_from_translation, unit_directions
from stadia.objectpose.network import (
    ObjectMaps,
    ObjectPoseNet,
    PyramidNet,
    aggregate_objects,
    predict_object_class,
    score_classes,
)

ALL = {"mask": 7, "quaternion": 24, "translation": 18, "size": 18}
SMALL = {"encoder": "mobilenetv3_small_050", "pretrained": False, "pyramid_channels": 8, "segmentation_channels": 8}
HEIGHT, WIDTH = 32, 64


@pytest.mark.parametrize(
    ("encoder", "outputs", "parameters"),
    [
        ("resnext50_32x4d", {"mask": 7, "quaternion": 24}, 28_199_647),  # the form of December 2020
        ("resnext50_32x4d", ALL, 33_420_035),
        ("resnet18", ALL, 18_667_523),
    ],
)
def test_the_reference_networks_have_their_parameters(encoder: str, outputs: dict[str, int], parameters: int) -> None:
    with torch.device("meta"):
        network = PyramidNet(encoder, outputs, pretrained=False)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_any_strides_give_maps_at_the_finest_one(encoder: str) -> None:
    with torch.device("meta"):
        network = PyramidNet(encoder, {"mask": 3}, pretrained=False, pyramid=8, segmentation=8)
        assert network(torch.zeros(1, 3, 64, 96))["mask"].shape == (1, 3, 64 // network.stride, 96 // network.stride)


class Scene:
    """Four objects in two images, with true maps at their pixels and noise elsewhere."""

    def __init__(self, rotation_frame: str = "ray") -> None:
        random = torch.Generator().manual_seed(3)
        self.network = ObjectPoseNet(ObjectPoseNetConfig(**SMALL, rotation_frame=rotation_frame))
        K = torch.tensor([[60.0, 0, 31.5], [0, 58.0, 15.5], [0, 0, 1]]).repeat(2, 1, 1)
        K[1, 0, 0] = 80
        self.camera = Camera(K, HEIGHT, WIDTH)
        self.instance = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.long)
        self.instance[0, 3:12, 5:20], self.instance[0, 15:30, 30:50] = 1, 2
        self.instance[1, 10:20, 2:9], self.instance[1, 4:28, 40:60] = 1, 3  # there is no second
        self.segments: Segments = segments_from_instances(self.instance)
        self.class_id = torch.tensor([1, 4, 6, 1])
        self.quaternion = F.normalize(torch.randn(4, 4, generator=random), dim=-1)
        self.quaternion *= self.quaternion[:, :1].sign()
        self.t = torch.tensor([[-0.2, -0.1, 0.8], [0.15, 0.1, 0.7], [-0.4, 0.0, 1.0], [0.2, 0.02, 0.6]])
        self.size_m = 0.05 + 0.2 * torch.rand(4, 3, generator=random)
        self.maps = self._maps(random, rotation_frame)

    def _maps(self, random: torch.Generator, rotation_frame: str) -> ObjectMaps:
        def noise(*channels: int) -> Tensor:
            return torch.randn(2, *channels, HEIGHT, WIDTH, generator=random)

        maps = ObjectMaps(noise(7), noise(6, 4), noise(6, 2), noise(6, 1), noise(6, 3))
        for row, (image, number, kind) in enumerate(
            zip(self.segments.image, self.segments.instance, self.class_id, strict=True)
        ):
            y, x = (self.instance[image] == number).nonzero().unbind(1)
            camera = Camera(self.camera.K[image], HEIGHT, WIDTH)
            place = torch.stack((x, y), -1).float()
            rays = torch.cat((place, torch.ones(len(x), 1)), -1) @ torch.linalg.inv(camera.K).T
            q = self.quaternion[row].expand(len(x), 4)
            if rotation_frame == "ray":
                q = quaternion_multiply(quaternion_conjugate(quaternion_from_ray(rays)), q)
            flip = torch.where(torch.rand(len(x), 1, generator=random) < 0.5, -1.0, 1.0)
            maps.quaternion[image, kind - 1, :, y, x] = (flip * q * 3).T  # of any sign and length
            maps.to_center[image, kind - 1, :, y, x] = (
                2 * unit_directions(center_from_translation(self.t[row], camera), place).T
            )
            maps.log_pixel_m[image, kind - 1, 0, y, x] = (self.t[row, 2] / camera.K[0, 0]).log()
            maps.log_size[image, kind - 1, :, y, x] = self.size_m[row].log()[:, None]
            maps.class_logits[image, :, y, x] = 10 * F.one_hot(kind, 7).float()[:, None]
        return maps


@pytest.mark.parametrize("rotation_frame", ["ray", "camera"])
def test_true_pixel_values_give_the_true_objects(rotation_frame: str) -> None:
    scene = Scene(rotation_frame)
    pixels = scene.network.pixels(scene.maps, scene.segments, scene.class_id, scene.camera)
    found = aggregate_objects(pixels, scene.segments, scene.camera)
    assert_close(found.quaternion_wxyz, scene.quaternion, atol=1e-5, rtol=0)
    assert_close(
        found.T_camera_object,
        poses.from_rotation_translation(poses.matrix_from_quaternion_wxyz(scene.quaternion), scene.t),
        atol=1e-4,
        rtol=0,
    )
    assert_close(found.size_m, scene.size_m)
    assert found.center_known.all()


def test_as_one_object_after_another_gives() -> None:
    """Noisy predictions: the mean of each object's own pixels, in NumPy and with a loop."""
    scene = Scene("camera")
    noisy = replace(
        scene.maps,
        **{
            n: getattr(scene.maps, n) + 0.3 * torch.randn_like(getattr(scene.maps, n))
            for n in ("quaternion", "log_pixel_m", "log_size")
        },
    )
    found = aggregate_objects(
        scene.network.pixels(noisy, scene.segments, scene.class_id, scene.camera), scene.segments, scene.camera
    )
    for row, (image, number, kind) in enumerate(
        zip(scene.segments.image, scene.segments.instance, scene.class_id, strict=True)
    ):
        own = (scene.instance[image] == number).numpy()
        q = noisy.quaternion[image, kind - 1].double().numpy()[:, own].T
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        mean = np.linalg.eigh(q.T @ q)[1][:, -1]
        assert_close(found.quaternion_wxyz[row].double(), torch.from_numpy(mean * np.sign(mean[0])), atol=1e-5, rtol=0)
        depth = noisy.log_pixel_m[image, kind - 1, 0].numpy()[own].mean() + np.log(float(scene.camera.K[image, 0, 0]))
        assert float(found.T_camera_object[row, 2, 3]) == pytest.approx(np.exp(depth), rel=1e-4)
        size = np.exp(noisy.log_size[image, kind - 1].numpy()[:, own].mean(1))
        assert found.size_m[row].tolist() == pytest.approx(size.tolist(), rel=1e-4)


def test_gradients_are_finite_and_reach_every_output() -> None:
    scene = Scene()
    leaf_maps = replace(
        scene.maps,
        **{n: getattr(scene.maps, n).requires_grad_() for n in ("quaternion", "to_center", "log_pixel_m", "log_size")},
    )
    found = aggregate_objects(
        scene.network.pixels(leaf_maps, scene.segments, scene.class_id, scene.camera), scene.segments, scene.camera
    )
    (found.T_camera_object.square().sum() + found.size_m.sum()).backward()
    for name in ("to_center", "log_pixel_m", "log_size"):
        gradient = getattr(leaf_maps, name).grad
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_the_class_of_an_object_is_the_most_probable_to_all_its_pixels_and_its_score_the_mean_probability() -> None:
    scene = Scene()
    assert torch.equal(predict_object_class(scene.maps.class_logits, scene.segments), scene.class_id)
    assert_close(
        score_classes(scene.maps.class_logits, scene.segments, scene.class_id),
        torch.full((4,), 1 / (1 + 6 * np.exp(-10.0))),
    )
    logits = scene.maps.class_logits.clone()
    logits[0, 5, 3:9, 5:20] = 11  # six of nine rows slightly prefer 5 to 1, three strongly prefer 1
    assert int(predict_object_class(logits, scene.segments)[0]) == 1
    logits[0, 5, 9:12, 5:20], logits[0, 0] = 9, 99  # less strongly; the background does not vote
    assert int(predict_object_class(logits, scene.segments)[0]) == 5
