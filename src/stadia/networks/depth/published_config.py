"""Configuration of the depth network `published`: source, scale of its depth, and image sizes. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.types import DepthScale
from stadia.io.input_files import make_absolute
from stadia.networks.config import MAX_SIDE, DepthNetworkConfig
from stadia.networks.published_files import check_architecture, find_published_files, find_repository, read_settings
from stadia.predict.networks.published_networks import PACKAGES, PUBLISHED_NETWORKS, PublishedNetwork

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of RGB in ImageNet
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # [0, 1] to [-1, 1]
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # unchanged

Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel in the normalization of RGB in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image is prepared for a published network.

    size: (height, width) after resizing; None keeps the image's size.
    keep_aspect: resize both sides by the same factor: the one of the two factors that `size` requires which is nearer
        to 1.
    multiple: both sides are rounded to multiples of this number of pixels.
    mean, std: mean and standard deviation of each channel in the normalization of RGB in [0, 1].
    is_fixed: the network accepts images of `size` only.
    margins: add mirrored margins to the image, and cut them off the prediction (ZoeDepth).
    is_bound: shrink or enlarge the image, with its aspect ratio, so that it just fits into `size`.
    """

    size: tuple[int, int] | None
    keep_aspect: bool
    multiple: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    is_fixed: bool = False
    margins: bool = False
    is_bound: bool = False

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that the network's authors would resize an image of this height and width to."""
        if self.size is None:
            return self.round_up(height, width)
        vertical, horizontal = self.size[0] / height, self.size[1] / width
        if self.is_bound:
            vertical = horizontal = min(vertical, horizontal)
        elif self.keep_aspect:
            vertical = horizontal = horizontal if abs(1 - horizontal) < abs(1 - vertical) else vertical
        rows, columns = (
            max(round(side * scale / self.multiple), 1) * self.multiple
            for side, scale in ((height, vertical), (width, horizontal))
        )
        return min(rows, MAX_SIDE), min(columns, MAX_SIDE)

    def round_up(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest (height, width), not below the given ones, that the network accepts."""
        if self.is_fixed and self.size is not None:
            return self.size
        return (height + self.multiple - 1) // self.multiple * self.multiple, (
            width + self.multiple - 1
        ) // self.multiple * self.multiple


_DEFAULTS: Mapping[str, tuple[tuple[int, int] | None, bool, int, Normalization]] = {
    "chmv2": (None, True, 16, ((0.420, 0.411, 0.296), (0.213, 0.156, 0.143))),
    "depth_anything": ((518, 518), True, 14, _IMAGENET),
    "depth_anything_3": ((504, 504), True, 14, _PLAIN),
    "depth_pro": ((1536, 1536), False, 1, _HALF),
    "dpt": ((384, 384), False, 32, _HALF),
    "glpn": (None, True, 32, _PLAIN),
    "moge": (None, True, 1, _PLAIN),
    "prompt_depth_anything": ((756, 756), True, 14, _IMAGENET),
    "tipsv2_dpt": ((448, 448), False, 14, _PLAIN),
    "zoedepth": ((384, 512), True, 32, _HALF),
}
"""Defaults of each image processor: size, whether the aspect ratio is kept, multiple, mean and standard deviation."""


def read_preprocessing(architecture: Mapping[str, Any], settings: Mapping[str, Any]) -> Preprocessing:
    """Return how images are prepared for a published network of the package transformers.

    architecture: content of config.json.
    settings: content of preprocessor_config.json. Missing keys take the defaults of the network's image processor.

    Raises ValueError for impossible sizes and normalizations.
    """
    kind = architecture["model_type"]
    size, keep_aspect, multiple, (mean, std) = _DEFAULTS[kind]
    backbone = architecture.get("backbone_config") or {}
    patch = architecture.get("patch_size") if kind == "depth_anything" else backbone.get("patch_size")
    given = settings.get("size")
    if isinstance(given, Mapping) and {"height", "width"} <= given.keys():
        size = given["height"], given["width"]
    elif isinstance(given, int):
        size = given, given
    may_divide = kind in ("glpn", "chmv2")
    _refuse_other_steps(settings, size=given, may_pad=kind in ("zoedepth", "chmv2"), may_divide=may_divide)
    if settings.get("do_resize") is False:
        size = None
    if may_divide:
        given_multiple = settings.get("size_divisor")
        size = None if kind == "glpn" else size
    else:
        given_multiple = settings.get("ensure_multiple_of")
    steps = [step for step in (given_multiple, patch) if isinstance(step, int) and step > 0]
    multiple = math.lcm(*steps, 1 if steps else multiple)
    if kind in ("dpt", "glpn", "zoedepth"):
        multiple = math.lcm(multiple, 32)
    if settings.get("do_normalize", kind not in ("glpn", "tipsv2_dpt")) is False:
        mean, std = _PLAIN
    else:
        mean, std = tuple(settings.get("image_mean") or mean), tuple(settings.get("image_std") or std)
    sides = (*(size or ()), multiple)
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"the image processor has the size {size} and the multiple {multiple}, at most {MAX_SIDE}")
    if not (len(mean) == len(std) == 3 and all(isinstance(x, int | float) for x in (*mean, *std)) and min(std) > 0):
        raise ValueError(f"the image processor has mean {mean} and standard deviation {std}; both need three numbers")
    return Preprocessing(
        size=size,
        keep_aspect=bool(settings.get("keep_aspect_ratio", keep_aspect)),
        multiple=1 if kind == "depth_pro" else multiple,
        mean=mean,
        std=std,
        is_fixed=kind == "depth_pro",
        margins=kind == "zoedepth" and settings.get("do_pad", True) is not False,
        is_bound=kind == "depth_anything_3",
    )


def _refuse_other_steps(settings: Mapping[str, Any], *, size: object, may_pad: bool, may_divide: bool) -> None:
    """Raise ValueError for steps of an image processor that `Preprocessing` does not do."""
    others = [f"{key}={value}" for key, value in (("do_center_crop", True), ("do_flip_channel_order", True),
              ("do_rescale", False)) if settings.get(key) is value]  # fmt: skip
    others += [f"size_divisor={settings['size_divisor']}"] if settings.get("size_divisor") and not may_divide else []
    others += ["offset=True"] if settings.get("offset") is True else []
    others += ["do_pad=True"] if settings.get("do_pad") is True and not may_pad else []
    factor = settings.get("rescale_factor", RESCALE_FACTOR)
    if not (isinstance(factor, int | float) and math.isclose(factor, RESCALE_FACTOR, rel_tol=1e-3)):
        others.append(f"rescale_factor={factor}")
    if isinstance(size, Mapping) and settings.get("do_resize") is not False and not {"height", "width"} <= size.keys():
        others.append(f"size.{', size.'.join(map(str, size))}")
    if others:
        raise ValueError(f"the image processor has {', '.join(others)}, which stadia does not do")


RESCALE_FACTOR = 1 / 255  # of images with 8 bits to [0, 1], the only one that stadia does


def find_output(architecture: Mapping[str, Any]) -> DepthScale:
    """Return the scale of the depth that an architecture predicts: metres, or (inverse) depth up to scale and shift.

    architecture: content of config.json.

    Raises ConfigError for a metric network without its largest depth.
    """
    kind = architecture["model_type"]
    if kind in ("chmv2", "prompt_depth_anything"):  # heights above the ground; depth without a prompt
        return DepthScale.AFFINE_DEPTH
    if kind == "dpt" or (kind == "depth_anything" and architecture.get("depth_estimation_type") != "metric"):
        return DepthScale.AFFINE_INVERSE
    if architecture.get("depth_estimation_type") == "metric" and (architecture.get("max_depth") or 1) <= 1:
        fix = "write 20 (indoor weights) or 80 (outdoor weights)"
        raise ConfigError("config.json, max_depth", found="none, or 1", expected="the largest depth in metres", fix=fix)
    return DepthScale.METRES


class PublishedConfig(DepthNetworkConfig):
    """A published depth network of transformers, or of its authors' package.

    source: a name of `stadia list networks`, hf:ORG/NAME, hf:ORG/NAME@REVISION, or a folder with safetensors.
    settings: architecture and image processor of the source. They are stored, so that a checkpoint does not need the
        source.
    output: scale of the source's depth, if it differs from the architecture's.
    focal: fx / width of the images whose depth it predicts in metres. null takes the value of `stadia list networks`.
    licence: licence of the weights, if known.
    """

    typical_depth_m: ClassVar[float] = 10.0
    size_multiple: ClassVar[int] = 1

    name: Literal["published"] = "published"
    source: str
    settings: dict[str, Any] | None = None
    output: DepthScale | None = None
    focal: PositiveFloat | None = None
    licence: str = Field(default="", max_length=200)
    revision: str = Field(default="", max_length=100)

    @model_validator(mode="after")
    def _read_source(self) -> Self:
        entry = PUBLISHED_NETWORKS.get(self.source)
        if self.settings is None and entry is not None and entry.package:
            architecture = {"model_type": entry.package, "focal_unit_px": entry.focal_unit_px}
            object.__setattr__(self, "settings", {"architecture": architecture, "preprocessing": {}})
            self._state(entry)
        elif self.settings is None:
            try:
                files = find_published_files(self.source)
                settings = read_settings(files)
            except StadiaError as error:
                raise ValueError(str(error)) from error
            object.__setattr__(self, "settings", settings)
            object.__setattr__(self, "revision", files.revision)
            if not find_repository(self.source):
                object.__setattr__(self, "source", str(make_absolute(self.source)))
            self._state(files.entry)
        parts = [(self.settings or {}).get(name) for name in ("architecture", "preprocessing")]
        if not all(isinstance(part, Mapping) for part in parts) or self.architecture.get("model_type") not in _DEFAULTS:
            raise ValueError("the settings have no architecture and preprocessing")
        check_architecture(self.architecture)
        self.preprocessing  # noqa: B018 - raises for sizes that no image has
        return self

    def _state(self, entry: PublishedNetwork | None) -> None:
        if entry is not None:
            for name in ("focal", "licence", "output"):
                object.__setattr__(self, name, getattr(self, name) or getattr(entry, name))

    @property
    def package(self) -> str:
        kind: str = self.architecture["model_type"]
        return kind if kind in PACKAGES else ""

    @property
    def architecture(self) -> dict[str, Any]:
        """Return a copy of the content of config.json, which describes the network's layers."""
        assert self.settings is not None
        return dict(self.settings["architecture"])

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how images are prepared for the network."""
        assert self.settings is not None
        return read_preprocessing(self.architecture, self.settings["preprocessing"])

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of the depth that the published weights predict: metres, up to scale, or up to scale and
        shift.
        """
        return self.output or find_output(self.architecture)

    @property
    def title(self) -> str:
        at = f"@{self.revision[:12]}" if self.revision else ""
        return f"{self.source}{at}"


_DEPTH_ANYTHING = {
    "small": (384, 12, 6, [3, 6, 9, 12], [48, 96, 192, 384], 64),
    "base": (768, 12, 12, [3, 6, 9, 12], [96, 192, 384, 768], 128),
    "large": (1024, 24, 16, [5, 12, 18, 24], [256, 512, 1024, 1024], 256),
}
"""DINOv2's channels, blocks, heads and output blocks; the decoder's input channels and its fused channels."""


class DepthAnythingConfig(PublishedConfig):
    """Depth Anything V2 (arXiv 2406.09414): the network `published`, chosen by its size alone.

    size: the licence of `small` allows any use (Apache-2.0). `base` and `large` have the licence CC-BY-NC-4.0.
    """

    name: Literal["depth_anything"] = "depth_anything"  # type: ignore[assignment]
    source: str = ""
    size: Literal["small", "base", "large"] = "small"

    @model_validator(mode="before")
    @classmethod
    def _name_source(cls, values: Any) -> Any:
        """Fill the source and its architecture, so that a configuration needs no download."""
        size = values.get("size", "small") if isinstance(values, Mapping) else None
        if size not in _DEPTH_ANYTHING or values.get("settings") is not None:
            return values  # pydantic names another size
        source = f"depth-anything-v2-{size}"
        width, blocks, heads, outputs, neck, fusion = _DEPTH_ANYTHING[size]
        backbone = {
            "model_type": "dinov2",
            "image_size": 518,
            "patch_size": 14,
            "hidden_size": width,
            "num_hidden_layers": blocks,
            "num_attention_heads": heads,
            "out_indices": outputs,
            "apply_layernorm": True,
            "reshape_hidden_states": False,
        }
        architecture = {
            "model_type": "depth_anything",
            "backbone_config": backbone,
            "patch_size": 14,
            "reassemble_hidden_size": width,
            "neck_hidden_sizes": neck,
            "fusion_hidden_size": fusion,
        }
        filled = {"source": source, "settings": {"architecture": architecture, "preprocessing": {}}}
        return {**filled, "licence": PUBLISHED_NETWORKS[source].licence, **values}

    @property
    def title(self) -> str:
        return f"{self.name} {self.size}"
