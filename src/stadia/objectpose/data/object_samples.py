"""Samples of single images with objects. Only colors are augmented, because mirroring and rotating change R."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stadia.core.errors import DataError
from stadia.core.seeds import make_generator
from stadia.core.types import Camera, TensorDataclass
from stadia.data.config import NO_AUGMENTATION, AugmentationConfig, ColorConfig
from stadia.data.frame_store import resize_image
from stadia.data.mask_files import resize_labels
from stadia.differentiable.batch import Batch, Meta
from stadia.geometry.cameras import resize_camera
from stadia.geometry.poses import quaternion_wxyz_from_matrix
from stadia.losses.class_masks import IGNORE_INDEX
from stadia.objectpose.boxes import Symmetry
from stadia.objectpose.data.object_labels import UNLABELED, ObjectImages, ObjectLabel, count_pixels
from stadia.training.loading.loader import PackedTensors, stack_packed, stack_padded
from stadia.training.loading.transforms import apply_color, compute_mean_gray, draw_augmentation

_PLACEHOLDERS = {  # values of places without an object, by field
    **dict.fromkeys(("known", "class_id", "revolution", "visible_px", "full_px"), torch.zeros(())),
    "T_camera_object": torch.eye(4),
    "size_m": torch.ones(()),
}


@dataclass(frozen=True, slots=True)
class ObjectInputs(TensorDataclass):
    """The inputs of the network: images (B, 3, H, W) RGB in [0, 1] with color augmentation, and K (B, 3, 3)."""

    image: Tensor
    camera: Camera


@dataclass(frozen=True, slots=True)
class ObjectTargets(TensorDataclass):
    """Hold the labels of B images with up to N objects each, which only losses and metrics read.

    image: (B, 3, H, W) RGB in [0, 1], without color augmentation.
    camera: camera of each image, with K (B, 3, 3).
    instance: (B, H, W) int64 object at each pixel; 0 means no object, n is the object at index n - 1 of the fields
        below.
    class_map: (B, H, W) int64 class number of each pixel; 0 is the background, IGNORE_INDEX an object without a
        label.
    known: (B, N) bool, whether the image has an object at this index. Entries without one are placeholders (class 0,
        the identity, size 1).
    class_id: (B, N) int64 class number of each object.
    quaternion_wxyz: (B, N, 4) rotation from object to camera coordinates, as a unit quaternion with w >= 0.
    T_camera_object: (B, N, 4, 4) pose from object to camera coordinates in metres.
    size_m: (B, N, 3) edge lengths of the object's box along its x, y and z axes, in metres.
    symmetry: rotations that leave the objects unchanged; its leading dimensions are (B, N).
    visible_px: (B, N) int64 number of pixels of the object in `instance`.
    full_px: (B, N) int64 number of pixels that the object would have in `instance` without occlusion; 0 if unknown.
    """

    image: Tensor
    camera: Camera
    instance: Tensor
    class_map: Tensor
    known: Tensor
    class_id: Tensor
    quaternion_wxyz: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    symmetry: Symmetry
    visible_px: Tensor
    full_px: Tensor


@dataclass(frozen=True, slots=True)
class PackedObjects(PackedTensors):
    """A sample of one image with N objects that have K symmetry rotations each; see ObjectTargets for the fields.

    image: (3, H, W) uint8.
    color: (3, 4) matrix, see `transforms.make_color_matrix`, or None.
    instance: (H, W) object numbers, including UNLABELED.
    """

    image: Tensor
    K: Tensor
    color: Tensor | None
    instance: Tensor
    known: Tensor
    class_id: Tensor
    T_camera_object: Tensor
    size_m: Tensor
    revolution: Tensor
    turns: Tensor
    visible_px: Tensor
    full_px: Tensor
    meta: tuple[Meta, ...]


def pack_objects(objects: Sequence[ObjectLabel], scale: float) -> dict[str, Tensor]:
    """Return the fields of PackedObjects for one image with N objects, such as T_camera_object (N, 4, 4).

    scale: number of pixels of the sample per pixel of the image.
    """
    symmetry = Symmetry.parse([label.symmetry for label in objects] or ["none"])
    poses = np.array([label.T_camera_object for label in objects]).reshape(-1, 4, 4)
    return {
        "known": torch.ones(len(objects), dtype=torch.bool),
        "class_id": torch.tensor([label.class_id for label in objects], dtype=torch.int64),
        "T_camera_object": torch.from_numpy(poses).float(),
        "size_m": torch.from_numpy(np.array([label.size_m for label in objects]).reshape(-1, 3)).float(),
        "revolution": symmetry.revolution[: len(objects)],
        "turns": symmetry.turns[: len(objects)].float(),
        "visible_px": torch.tensor([label.visible_px for label in objects], dtype=torch.int64),
        "full_px": torch.tensor([round(label.full_px * scale) for label in objects], dtype=torch.int64),
    }


class ObjectSamples(Dataset[PackedObjects]):
    """Images of objects for a `Loader`. A sample depends only on (seed, epoch, index).

    An object that is only visible at the image's full size counts as missed. So every network size is scored on the
    same objects.

    sets: sets of images.

    Raises DataError without images, or if the sets have different classes.
    """

    def __init__(
        self,
        sets: Sequence[ObjectImages],
        *,
        height: int,
        width: int,
        color: ColorConfig = NO_AUGMENTATION.color,
        seed: int = 0,
    ) -> None:
        if len({images.classes for images in sets}) != 1 or not any(len(images) for images in sets):
            named = "; ".join(f"{images.name}: {len(images)} of {', '.join(images.classes)}" for images in sets)
            expected = "images of the same classes"
            raise DataError("images of objects", found=named or "none", expected=expected)
        self.sets, self.classes = list(sets), sets[0].classes
        self.height, self.width, self.seed = height, width, seed
        self._augmentation = AugmentationConfig(mirror=0.0, color=color)
        self._entries = [(number, index) for number, images in enumerate(self.sets) for index in range(len(images))]

    def __len__(self) -> int:
        return len(self._entries)

    def packed(self, key: tuple[int, int]) -> PackedObjects:
        """Return the sample for a key (epoch, index). Raises DataError with the file."""
        epoch, number = key
        which, index = self._entries[number]
        images = self.sets[which]
        image, camera, labels = images.image(index), images.camera(index), images.labels(index)
        instance = resize_labels(labels.instance, self.height, self.width)
        visible = count_pixels(instance, len(labels.objects))
        shown = np.array([label.visible_px > 0 for label in labels.objects], bool)
        # Objects are numbered from 1; UNLABELED, -1, is the index of the last entry.
        places = np.concatenate(([0], np.where(shown, shown.cumsum(), 0), [UNLABELED]))
        counted = zip(labels.objects, visible, strict=True)
        objects = [replace(label, visible_px=int(count)) for label, count in counted if label.visible_px]
        generator = make_generator(self.seed, "objects", epoch, number)
        random = draw_augmentation(self._augmentation, self.height, self.width, generator)
        planar = np.ascontiguousarray(resize_image(image, self.height, self.width).transpose(2, 0, 1))
        return PackedObjects(
            image=torch.from_numpy(planar),
            K=torch.as_tensor(resize_camera(camera, self.height, self.width).K).float(),
            color=random.color,
            instance=torch.from_numpy(places[instance].astype(np.int16 if len(objects) < 1 << 15 else np.int32)),
            **pack_objects(objects, self.height * self.width / labels.instance.size),
            meta=(Meta(images.name, index, file=images.file(index)),),
        )

    def __getitem__(self, index: int) -> PackedObjects:
        return self.packed((0, index))

    def stack(self, samples: Sequence[PackedObjects]) -> PackedObjects:
        """Stack samples to a batch. It has as many objects and symmetry rotations as the largest sample."""
        places = max(len(sample.known) for sample in samples)
        most = max(sample.turns.shape[1] for sample in samples)
        turns = [
            torch.cat((sample.turns, sample.turns[:, :1].expand(-1, most - sample.turns.shape[1], -1)), 1)
            for sample in samples
        ]
        padded = {
            name: stack_padded([getattr(sample, name) for sample in samples], places, placeholder)
            for name, placeholder in _PLACEHOLDERS.items()
        }
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
        instance = torch.stack([sample.instance.int() for sample in samples])
        return stack_packed(samples, **padded, turns=stack_padded(turns, places, identity), instance=instance)

    def unpack(self, packed: PackedObjects, device: torch.device | str = "cpu") -> Batch[ObjectInputs, ObjectTargets]:
        """Convert a batch to floats on the device.

        Without color augmentation, inputs share their memory with targets.
        """
        packed = packed.to(device)
        image = packed.image.mul(1 / 255)
        input_image = image
        if packed.color is not None:
            input_image = apply_color(image[:, None], packed.color, compute_mean_gray(image))[:, 0]
        camera = Camera(packed.K, *image.shape[-2:])
        numbers, class_id = packed.instance.long(), packed.class_id
        instance = numbers.clamp(min=0)
        by_number = torch.cat((class_id.new_zeros(len(class_id), 1), class_id), 1)
        shown = by_number.gather(1, instance.flatten(1)).view_as(instance)
        targets = ObjectTargets(
            image=image,
            camera=camera,
            instance=instance,
            class_map=shown.where(numbers != UNLABELED, IGNORE_INDEX),
            known=packed.known,
            class_id=class_id,
            quaternion_wxyz=quaternion_wxyz_from_matrix(packed.T_camera_object[..., :3, :3]),
            T_camera_object=packed.T_camera_object,
            size_m=packed.size_m,
            symmetry=Symmetry(packed.revolution, packed.turns),
            visible_px=packed.visible_px,
            full_px=packed.full_px,
        )
        return Batch(ObjectInputs(input_image, camera), targets, packed.meta)
