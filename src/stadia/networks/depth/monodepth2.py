"""The depth network `monodepth2`: published checkpoints of Monodepth2 (arXiv 1806.01260), with their pose network."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError
from stadia.core.types import Camera, DepthScale
from stadia.differentiable.depth_activations import sigmoid_to_inverse_depth
from stadia.geometry.poses import from_rotation_translation, so3_exp
from stadia.io.input_files import expand_home
from stadia.networks.config import Monodepth2Config
from stadia.networks.depth.depth_network import AffineDepthNetwork, DepthMaps, list_trainable
from stadia.networks.weight_files import copy_weights, read_tensors

MEAN = 0.45
"""Mean with which the published networks normalize all three channels of RGB in [0, 1]."""

STD = 0.225
"""Standard deviation with which they do."""

MIN_DEPTH = 0.1
"""Smallest depth of the sigmoid output, in the unit of the published depth."""

MAX_DEPTH = 100.0
"""Largest depth of the sigmoid output, in the same unit."""

TRAINING_FOCAL = 0.58
"""Focal length over image width (fx / width) of the published networks' training images."""

UNIT_BASELINE = 0.1
"""Baseline of KITTI's stereo cameras in the unit of stereo-trained networks."""

KITTI_BASELINE_M = 0.54
"""The same baseline in metres: the unit of these networks is 5.4 m."""

POSE_SCALE = 0.01
"""Factor on the outputs of the pose decoder."""

DECODER_CHANNELS = (16, 32, 64, 128, 256)
"""Channels of the published decoder, finest scale first."""

FILES = ("encoder", "depth", "pose_encoder", "pose")
"""Names of the published files without their suffix. The files of the pose network may be missing."""

UNUSED = ("encoder.encoder.fc.", "pose_encoder.encoder.fc.")
"""Weights whose names begin like this are unused: they belong to the encoders' classifiers."""


class ReflectedConv(nn.Module):
    """A 3x3 convolution that pads by reflection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, inputs, h, w) to features (B, outputs, h, w)."""
        mode = "reflect" if min(x.shape[-2:]) > 1 else "replicate"  # one row has no reflection
        result: Tensor = self.conv(functional.pad(x, (1, 1, 1, 1), mode=mode))
        return result


class ConvBlock(nn.Module):
    """A convolution and an ELU, with the weight names of the published files."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ReflectedConv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, inputs, h, w) to features (B, outputs, h, w)."""
        result: Tensor = functional.elu(self.conv(x))
        return result


class DisparityDecoder(nn.Module):
    """The disparity decoder with five stages. Its modules are in the order of the published weights."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in range(4, -1, -1):
            inputs = channels[-1] if step == 4 else DECODER_CHANNELS[step + 1]
            skip = channels[step - 1] if step else 0
            layers.append(ConvBlock(inputs, DECODER_CHANNELS[step]))
            layers.append(ConvBlock(DECODER_CHANNELS[step] + skip, DECODER_CHANNELS[step]))
        layers += [ReflectedConv(DECODER_CHANNELS[scale], 1) for scale in range(4)]
        self.decoder = nn.ModuleList(layers)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Map the encoder's five features, finest first, to logits (B, 1, H / 2^s, W / 2^s) for s = 0, 1, 2 and 3."""
        x, logits = features[-1], []
        for step in range(4, -1, -1):
            x = self.decoder[2 * (4 - step)](x)
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = torch.cat([x, features[step - 1]], dim=1) if step else x
            x = self.decoder[2 * (4 - step) + 1](x)
            if step < 4:
                logits.append(self.decoder[10 + step](x))
        return tuple(reversed(logits))


class ResnetEncoder(nn.Module):
    """A ResNet of timm with the weight names of the published files."""

    def __init__(self, name: str, images: int = 1) -> None:
        super().__init__()
        import stadia.differentiable.torchvision_operators  # noqa: F401

        # isort: split

        import timm

        self.encoder: Any = timm.create_model(name, pretrained=False, in_chans=3 * images, num_classes=0)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images (B, 3 * images, H, W), RGB in [0, 1], to features at 1/2 to 1/32 of the size, finest first."""
        net = self.encoder
        x = net.act1(net.bn1(net.conv1((image - MEAN) / STD)))
        features = [x, net.layer1(net.maxpool(x))]
        for layer in (net.layer2, net.layer3, net.layer4):
            features.append(layer(features[-1]))
        return features


class PoseDecoder(nn.Module):
    """Four convolutions that map the coarsest features of an image pair to the camera motion between the two images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = [
            nn.Conv2d(channels, 256, 1),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.Conv2d(256, 256, 3, padding=1),
        ]
        self.net = nn.ModuleList([*convolutions, nn.Conv2d(256, 12, 1)])

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to motions (B, 6) from the earlier to the later camera.

        A motion is an axis-angle vector, then a translation.
        """
        x = self.net[0](features).relu()
        x = self.net[2](self.net[1](x).relu()).relu()
        result: Tensor = POSE_SCALE * self.net[3](x).mean((2, 3))[:, :6]
        return result


class Monodepth2(AffineDepthNetwork):
    """Monodepth2 as published: encoder, decoder and pose network with the published weight names."""

    Config: ClassVar[type[Monodepth2Config]] = Monodepth2Config
    exports_one_size: ClassVar[bool] = True  # its padding depends on the size of the coarsest map
    licence = "Monodepth2 licence (non-commercial: research only)"
    source = "https://arxiv.org/abs/1806.01260"
    config: Monodepth2Config

    def __init__(self, config: Monodepth2Config, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.encoder = ResnetEncoder(config.encoder)
        channels = (64, 64, 128, 256, 512) if config.encoder == "resnet18" else (64, 256, 512, 1024, 2048)
        self.depth = DisparityDecoder(channels)
        if config.motion:
            self.pose_encoder, self.pose = ResnetEncoder("resnet18", images=2), PoseDecoder(512)
        self.output = DepthScale.UP_TO_SCALE if config.metres_per_unit is None else DepthScale.METRES
        self.register_scale(1 / (config.metres_per_unit or 1.0), 0.0)
        self.is_pretrained = pretrained and config.weights is not None
        if self.is_pretrained:
            load_monodepth2(self, Path(str(config.weights)))

    @property
    def has_depth_weights(self) -> bool:
        return self.config.weights is not None

    @property
    def training_focal(self) -> float | None:
        return TRAINING_FOCAL if self.output is DepthScale.METRES else None

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return self.config.size

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.encoder)

    def decoder_parameters(self) -> list[nn.Parameter]:
        return list_trainable(self.depth)

    def raw(self, image: Tensor) -> Tensor:
        """Return the finest predicted inverse depth (B, 1, H, W), in the network's own unit, of images (B, 3, H, W) in
        [0, 1].
        """
        return sigmoid_to_inverse_depth(self.depth(self.encoder(image))[0].float(), MIN_DEPTH, MAX_DEPTH)

    def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Predict the inverse depth of images (B, 3, H, W), RGB in [0, 1], at four scales."""
        logits = self.depth(self.encoder(image))
        maps = (sigmoid_to_inverse_depth(logit.float(), MIN_DEPTH, MAX_DEPTH) for logit in logits)
        return DepthMaps(tuple(self.scale * inverse_depth for inverse_depth in maps))

    def T_later_earlier(self, earlier: Tensor, later: Tensor) -> Tensor | None:
        """Predict the motion (B, 4, 4) from the earlier to the later camera, in the unit of depth; None without a pose
        network.

        earlier, later: (B, 3, H, W) RGB in [0, 1], two images of a video in temporal order.
        """
        if not self.config.motion:
            return None
        values = self.pose(self.pose_encoder(torch.cat([earlier, later], dim=1))[-1]).float()
        return from_rotation_translation(so3_exp(values[:, :3]), values[:, 3:] / self.scale)


def load_monodepth2(network: Monodepth2, folder: Path) -> None:
    """Copy the weights of the files that Monodepth2's authors publish into a network.

    network: changed in place.
    folder: folder with encoder.pth and depth.pth, and for a network with motion also pose_encoder.pth and pose.pth.

    Raises CheckpointError if a file or a weight is missing, left over or has a shape that differs from the network's.
    """
    folder = expand_home(folder)
    tensors: dict[str, Tensor] = {}
    for part in FILES if network.config.motion else FILES[:2]:
        path = folder / f"{part}.pth"
        if not path.is_file():
            fix = "network.motion=false leaves the pose network out" if part.startswith("pose") else "check the folder"
            raise CheckpointError(path, found="no such file", expected="a file of Monodepth2", fix=fix)
        tensors |= {f"{part}.{name}": tensor for name, tensor in read_part(path).items()}
    used = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNUSED)}
    fix = "pass the folder of one network; network.encoder=resnet50 for its larger encoder"
    copy_weights(network, used, folder, ignore=("scale", "shift"), fix=fix)


PLAIN = ("height", "width", "use_stereo")
"""Names of plain numbers in encoder.pth: height and width of the training images, and whether stereo video was used."""


def read_part(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one published file, such as depth.pth, by name.

    Raises CheckpointError if the file contains anything else.
    """
    return {name: tensor for name, tensor in read_tensors(path, PLAIN).items() if name not in PLAIN}


def describe_monodepth2(folder: Path) -> dict[str, Any]:
    """Return the settings of `Monodepth2Config` that follow from the published files in a folder, as a dictionary.

    Raises CheckpointError if encoder.pth is missing or damaged.
    """
    folder = expand_home(folder)
    if not (folder / "encoder.pth").is_file():
        expected, fix = "encoder.pth and depth.pth of Monodepth2", "pass the folder that holds them"
        raise CheckpointError(folder, found="no encoder.pth", expected=expected, fix=fix)
    values = read_tensors(folder / "encoder.pth", PLAIN)
    has_motion = all((folder / f"{part}.pth").is_file() for part in FILES[2:])
    is_deep = any(name.startswith("encoder.layer1.0.conv3.") for name in values)
    described: dict[str, Any] = {"weights": str(folder), "motion": has_motion}
    described["encoder"] = "resnet50" if is_deep else "resnet18"
    if {"height", "width"} <= values.keys():
        described["size"] = [values["height"].tolist(), values["width"].tolist()]
    if "use_stereo" in values and bool(values["use_stereo"]):
        described["metres_per_unit"] = KITTI_BASELINE_M / UNIT_BASELINE
    return described
