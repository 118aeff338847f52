"""The depth network `midas`: MiDaS 2.1 (arXiv 1907.01341), with the weight names of its published file."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import ConfigError
from stadia.networks.config import MidasConfig
from stadia.networks.depth.depth_network import AffineDepthNetwork, list_trainable
from stadia.networks.encoders import check_encoder
from stadia.networks.weight_files import load_state_dict

MAX_SIDE = 384
"""The longer side of an image is resized to this number of pixels for a prediction if no training determined a size."""

HEAD_CHANNELS = 128, 32
"""Numbers of channels of the head's last convolutions."""


class ResidualUnit(nn.Module):
    """Two convolutions whose output is added to the positive part of the input.

    The positive part is used because the published network applies its ReLU in place.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) to features (B, C, h, w)."""
        positive = x.relu()
        result: Tensor = self.conv2(self.conv1(positive).relu()) + positive
        return result


class RefiningBlock(nn.Module):
    """Add the encoder's feature map to the map of the coarser level, refine the sum, and double its size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resConfUnit1, self.resConfUnit2 = ResidualUnit(channels), ResidualUnit(channels)  # the published names

    def forward(self, coarser: Tensor | None, features: Tensor) -> Tensor:
        """Return the refined map (B, C, 2h, 2w).

        coarser: (B, C, h, w) output of the block at the next coarser level; None in the coarsest block.
        features: (B, C, h, w) feature map of the encoder at this level.
        """
        joined = features if coarser is None else coarser + self.resConfUnit1(features)
        refined = self.resConfUnit2(joined)
        return functional.interpolate(refined, scale_factor=2.0, mode="bilinear", align_corners=True)


class Midas(AffineDepthNetwork):
    """MiDaS 2.1, which predicts inverse depth up to scale and shift."""

    Config: ClassVar[type[MidasConfig]] = MidasConfig
    exports_one_size: ClassVar[bool] = True
    licence = "MIT"
    source = "https://arxiv.org/abs/1907.01341"
    config: MidasConfig

    def __init__(self, config: MidasConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        import stadia.differentiable.torchvision_operators  # noqa: F401

        # isort: split

        import timm

        if not timm.is_model(config.encoder):  # "hf-hub:NAME" and "local-dir:NAME" would read another architecture
            raise ConfigError(
                "encoder",
                found=f"'{config.encoder}'",
                expected="a timm model",
                fix="choose an encoder that timm.list_models() lists",
            )
        trunk: Any = timm.create_model(config.encoder, pretrained=False, features_only=False, num_classes=0)
        sizes = [info["num_chs"] for info in trunk.feature_info[-4:]]
        stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.act1, trunk.maxpool, trunk.layer1)
        layers = {f"layer{number}": getattr(trunk, f"layer{number}") for number in (2, 3, 4)}
        self.pretrained = nn.ModuleDict({"layer1": stem, **layers})
        channels, (wide, narrow) = config.channels, HEAD_CHANNELS
        parts: dict[str, nn.Module] = {}
        for number, size in enumerate(sizes, 1):
            parts[f"layer{number}_rn"] = nn.Conv2d(size, channels, 3, padding=1, bias=False)
            parts[f"refinenet{number}"] = RefiningBlock(channels)
        parts["output_conv"] = nn.Sequential(
            nn.Conv2d(channels, wide, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(wide, narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, 1, 1),
            nn.ReLU(),
        )
        self.scratch = nn.ModuleDict(parts)
        for name, parameter in self.scratch.named_parameters():  # published but unused: it has no coarser features
            parameter.requires_grad = not name.startswith("refinenet4.resConfUnit1.")
        self.register_scale(1.0, 0.0)
        self.is_pretrained = pretrained and config.weights is not None
        if self.is_pretrained:
            load_state_dict(self, Path(str(config.weights)), ignore=("scale", "shift"))
        else:
            # The start is near the initial depth, because the last activation has no gradient below 0.
            last: Any = self.scratch["output_conv"][4]  # type: ignore[index]
            nn.init.normal_(last.weight, std=1e-3)
            nn.init.constant_(last.bias, 1 / self.config.start_m)

    @property
    def has_depth_weights(self) -> bool:
        return self.config.weights is not None

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        shrink = MAX_SIDE / max(height, width)
        rows, columns = (max(int(side * shrink) // 32, 1) * 32 for side in (height, width))
        return rows, columns

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.pretrained)

    def head_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.scratch["output_conv"])

    def raw(self, image: Tensor) -> Tensor:
        """Return inverse depth up to scale and shift (B, 1, H, W) of images (B, 3, H, W), RGB in [0, 1]."""
        x, features = self.normalize(image), list[Tensor]()
        for layer in self.pretrained.values():
            x = layer(x)
            features.append(x)
        merged: Tensor | None = None
        for number in (4, 3, 2, 1):
            merged = self.scratch[f"refinenet{number}"](merged, self.scratch[f"layer{number}_rn"](features[number - 1]))
        output: Tensor = self.scratch["output_conv"](merged)
        return output

    @classmethod
    def check_config(cls, config: Any, *, height: int, width: int) -> None:
        super().check_config(config, height=height, width=width)
        check_encoder(config.encoder, height=height, width=width)


def is_midas_file(names: Collection[str]) -> bool:
    """Return whether the names of the weights in a file show that it is a MiDaS 2.1 network. DPT, MiDaS 3, has other
    names.
    """
    return "pretrained.layer1.0.weight" in names
