"""The pose network: from two images in temporal order to the camera motion and the brightness change between them.

The functions in ROTATIONS convert values (..., n) of the network's head to rotations (..., 3, 3). Zeros give the
identity.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stadia.core.errors import ConfigError
from stadia.differentiable.batch import Batch, Prediction, is_temporal
from stadia.differentiable.view_synthesis import invert_brightness
from stadia.geometry.poses import from_rotation_translation, invert_pose, matrix_from_euler
from stadia.networks import ACTIVATIONS, POSE_HEADS, POSE_NETS, ROTATION_NUMBERS, ROTATIONS
from stadia.networks.config import DepthPoseNetConfig
from stadia.networks.depth.depth_network import build_depth_network
from stadia.networks.depth.unet import Unet
from stadia.networks.encoders import Encoder, InitialWeights

Activation = Callable[[], nn.Module]
Grid = tuple[int, int]


# -- encoders of image pairs: ResNet, D3VO, shared with depth, correlation


def compute_correlation_volume(one: Tensor, other: Tensor, reach: int) -> Tensor:
    """Correlate the features of two images at shifts of up to `reach` pixels: return (B, (2 reach + 1)^2, h, w).

    Channel (dy + reach) (2 reach + 1) + dx + reach is one(x, y) . other(x + dx, y + dy), and 0 for a shifted position
    outside the image (FlowNet, arXiv 1504.06852, eq. 1).

    one, other: (B, C, h, w) feature maps of the two images.
    reach: largest shift along x and y, in pixels of the feature maps.
    """
    height, width = one.shape[-2:]
    around = F.pad(other, (reach, reach, reach, reach))
    shifts = [(dy, dx) for dy in range(2 * reach + 1) for dx in range(2 * reach + 1)]
    return torch.stack([(one * around[..., dy : dy + height, dx : dx + width]).sum(1) for dy, dx in shifts], dim=1)


def compute_expected_shift(alike: Tensor, reach: int) -> Tensor:
    """Return the mean shift (B, 2, h, w) of each pixel, dx and dy, from the probabilities of all shifts.

    alike: (B, (2 reach + 1)^2, h, w) probabilities, which sum to 1 over the channels, in the channel order of
        `compute_correlation_volume`.
    reach: largest shift along x and y, in pixels of the feature maps.
    """
    steps = torch.arange(-reach, reach + 1, dtype=alike.dtype, device=alike.device)
    dy, dx = torch.meshgrid(steps, steps, indexing="ij")
    return torch.einsum("bnhw,cn->bchw", alike, torch.stack([dx.flatten(), dy.flatten()]))


class CorrelationPoseEncoder(nn.Module):
    """Map image pairs (B, 6, H, W), RGB in [0, 1], to features (B, 128, H / 32, W / 32), with sides rounded up.

    The encoder normalizes the images itself. It correlates feature maps of 1/4 of the image size within 4 of their
        pixels. If a video frame belongs to several pairs, encode it once: instead of images, pass the results of
        `encode_frames` for both frames of a pair, concatenated to (B, 2 FEATURES, H / 4, W / 4).
    """

    REACH, FEATURES = 4, 16
    MEAN, STD = 0.45, 0.225
    SHARPNESS = 10.0  # initial softmax sharpness: equal features weigh exp(10) times as much as orthogonal ones

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        few, shifts = self.FEATURES, (2 * self.REACH + 1) ** 2
        quarter = (nn.Conv2d(3, few, 5, 2, 2), activation(), nn.Conv2d(few, few, 3, 2, 1), activation())
        self.features = nn.Sequential(*quarter, nn.Conv2d(few, few, 3, padding=1))
        self.sharpness = nn.Parameter(torch.tensor(self.SHARPNESS))
        layers: list[nn.Module] = [nn.Conv2d(shifts + 4 + few, 64, 1), activation()]
        for inputs, outputs in ((64, 64), (64, 128), (128, 128)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), activation()]
        self.layers = nn.Sequential(*layers)
        self.channels, self.strides = [128], [32]

    def encode_frames(self, images: Tensor) -> Tensor:
        """Return the feature maps (B, FEATURES, H / 4, W / 4) of single images (B, 3, H, W), RGB in [0, 1]."""
        features = self.features((images - self.MEAN) / self.STD)
        # Unit features minus the mean of the image, so that brightness does not match.
        return F.normalize(features - features.mean((-2, -1), keepdim=True), dim=1)

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Return the features of image pairs as a list of one map (B, 128, H / 32, W / 32).

        pair: (B, 6, H, W) the earlier and the later image, RGB in [0, 1]; or the results of `encode_frames` for both,
            concatenated to (B, 2 FEATURES, H / 4, W / 4).
        """
        if pair.shape[1] == 6:
            pair = torch.cat([self.encode_frames(pair[:, :3]), self.encode_frames(pair[:, 3:])], dim=1)
        earlier, later = pair.chunk(2, dim=1)
        alike = compute_correlation_volume(earlier, later, self.REACH)
        shift = compute_expected_shift((self.sharpness * alike).softmax(1), self.REACH)
        return [self.layers(torch.cat([alike, shift, _places(earlier), earlier], dim=1))]


def _places(like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    x = torch.linspace(-1, 1, width, dtype=like.dtype, device=like.device).expand(height, width)
    y = torch.linspace(-1, 1, height, dtype=like.dtype, device=like.device)[:, None].expand(height, width)
    return torch.stack([x, y]).expand(like.shape[0], 2, height, width)


def make_resnet_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder | None) -> Encoder:
    """Create a separate encoder for image pairs, the timm model `config.pose_encoder` (Monodepth2).

    depth_encoder: not used.
    """
    checkpoints = config.checkpoint_gradients
    return Encoder(config.pose_encoder, images=2, pretrained=config.pretrained, checkpoint_gradients=checkpoints)


def make_d3vo_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder | None) -> "D3voPoseEncoder":
    """Create the encoder of D3VO's pose network: seven convolutions of stride 2 on the image pair, with random weights.

    Source: arXiv 2003.01060, supplement.

    depth_encoder: not used.
    """
    return D3voPoseEncoder(ACTIVATIONS.load(config.activation))


def make_shared_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder | None) -> "SharedPoseEncoder":
    """Create the encoder that passes on the depth encoder's features of both images. It has no weights of its own.

    depth_encoder: encoder of the depth network.
    """
    assert depth_encoder is not None, "the configuration refuses a network without an encoder"
    return SharedPoseEncoder(depth_encoder)


def make_correlation_encoder(config: DepthPoseNetConfig, depth_encoder: Encoder | None) -> CorrelationPoseEncoder:
    """Create the encoder that correlates features of the two images, computed by a small network.

    It learns best from little data.

    depth_encoder: not used.
    """
    return CorrelationPoseEncoder(ACTIVATIONS.load(config.activation))


class D3voPoseEncoder(nn.Module):
    """Map image pairs (B, 6, H, W), RGB in [0, 1], to features (B, 1024, H / 128, W / 128), with sides rounded up.

    The encoder normalizes the images itself. It is SfMLearner's pose network (arXiv 1704.07813) with D3VO's 1024
    channels. The first two kernels are 7 and 5 pixels wide.
    """

    CHANNELS = (16, 32, 64, 128, 256, 512, 1024)
    KERNELS = (7, 5, 3, 3, 3, 3, 3)
    MEAN, STD = 0.45, 0.225

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel in zip((6, *self.CHANNELS), self.CHANNELS, self.KERNELS, strict=False):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2), activation()]
        self.layers = nn.Sequential(*layers)
        self.channels, self.strides = [self.CHANNELS[-1]], [2 ** len(self.CHANNELS)]

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Return the features of image pairs as a list of one map (B, 1024, H / 128, W / 128).

        pair: (B, 6, H, W) the earlier and the later image, RGB in [0, 1].
        """
        return [self.layers((pair - self.MEAN) / self.STD)]


class SharedPoseEncoder(nn.Module):
    """Pass on the depth encoder's coarsest features of both images, concatenated to (B, 2 C, h, w), to the head."""

    def __init__(self, depth_encoder: Encoder) -> None:
        super().__init__()
        self.channels, self.strides = [2 * depth_encoder.channels[-1]], depth_encoder.strides[-1:]

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Return the given features (B, 2 C, h, w) unchanged, as a list of one map.

        pair: the depth encoder's coarsest features of the earlier and the later image, concatenated along the channels.
        """
        return [pair]


# -- heads


class PoolHead(nn.Sequential):
    """Map features to motion values by global average pooling and one linear layer; any image size (D3VO).

    channels: channels of the features.
    outputs: number of values.
    activation: not used.
    grid: not used.
    """

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        super().__init__(nn.Linear(channels, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) to values (B, outputs)."""
        output: Tensor = super().forward(x.mean(dim=(2, 3)))  # type: ignore[no-untyped-call]
        return output


class ConvHead(nn.Sequential):
    """Map features to motion values by four convolutions and global average pooling; any image size (Monodepth2).

    channels: channels of the features.
    outputs: number of values.
    activation: function that creates the layer after each convolution but the last.
    grid: not used.
    """

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, 256, 1), activation()]
        for _ in range(2):
            layers += [nn.Conv2d(256, 256, 3, padding=1), activation()]
        super().__init__(*layers, nn.Conv2d(256, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) to values (B, outputs)."""
        output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output.mean(dim=(2, 3))


class LinearHead(nn.Sequential):
    """Map features to motion values by one linear layer over all pixels of the feature map; training image size only.

    channels: channels of the features.
    outputs: number of values.
    activation: not used.
    grid: (height, width) of the feature map for training images.

    Raises ConfigError if `grid` is None, or for features of another size.
    """

    def __init__(self, channels: int, outputs: int, activation: Activation, grid: Grid | None = None) -> None:
        if grid is None:
            fix = "pass it, or take 'pool' or 'convolution'"
            raise ConfigError("pose_head 'linear'", found="no image size", expected="the training's", fix=fix)
        super().__init__(nn.Flatten(), nn.Linear(channels * grid[0] * grid[1], outputs))
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) of images of the training size to values (B, outputs).

        Raises ConfigError for features of images of another size.
        """
        if (size := tuple(x.shape[-2:])) != self.grid:
            expected = f"{self.grid[1]}x{self.grid[0]}, as in training"
            found = f"a map of {size[1]}x{size[0]}"
            fix = "keep the training's size, or train with 'pool' or 'convolution'"
            raise ConfigError("image size for pose_head 'linear'", found=found, expected=expected, fix=fix)
        output: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return output


# -- affine brightness between two images: gain a and offset b, a * first + b matches the second (D3VO, eq. 3)
#
# Predictions are bounded, so no image can be faded out. They are closed under inversion: swapping the images
# negates the logits. With b = sqrt(a) c, the inverse (1/a, -b/a) has -log a and -c.

MAX_GAIN = 2.0  # a is between 1/2 and 2: one stop of exposure
MAX_OFFSET = 0.5  # b is between -1/2 and 1/2 for any a, with images in [0, 1]
MIN_IMAGE_STD = 1 / 255  # an image in [0, 1] with a smaller standard deviation, one 8-bit step, is uniform


def compare_image_moments(earlier: Tensor, later: Tensor) -> Tensor:
    """Estimate the brightness change between two images from their moments: return log a and c, (B, 2).

    The moments are the mean and the standard deviation of each image.

    Gain a and offset sqrt(a) c change the earlier image so that it has the mean and standard deviation of the later
    one. Swapping the images negates both results. Uniform images have gain 1.

    earlier, later: (B, 3, H, W) RGB in [0, 1].
    """
    dims, earlier, later = (1, 2, 3), earlier.float(), later.float()
    (mean, spread), (mean_later, spread_later) = ((x.mean(dim=dims), x.std(dim=dims)) for x in (earlier, later))
    flat = torch.minimum(spread, spread_later) < MIN_IMAGE_STD
    log_gain = (spread_later.clamp(min=MIN_IMAGE_STD) / spread.clamp(min=MIN_IMAGE_STD)).log().masked_fill(flat, 0)
    half = (log_gain / 2).exp()
    return torch.stack((log_gain, mean_later / half - mean * half), dim=-1)


BRIGHTNESS_SCALE = 0.1
"""Factor on the outputs of the gain and offset heads."""


def decode_brightness(logits: Tensor, scale: float = BRIGHTNESS_SCALE) -> Tensor:
    """Convert a network's values (..., 2) to brightness changes (a, b), (..., 2). Zeros give (1, 0).

    The gain a is between 1/2 and 2, the offset b between -1/2 and 1/2.

    logits: (..., 2) raw values.
    scale: slope of log a and of b at value 0.
    """
    bounds = (math.log(MAX_GAIN), MAX_OFFSET / math.sqrt(MAX_GAIN))
    log_gain, offset = (bound * torch.tanh(logits[..., i] * (scale / bound)) for i, bound in enumerate(bounds))
    return torch.stack((log_gain.exp(), (log_gain / 2).exp() * offset), dim=-1)


class PairMotion(NamedTuple):
    """The camera motion and the brightness change from the earlier image of a pair to the later one.

    T_later_earlier: (B, 4, 4) float32 motion from the earlier to the later camera's coordinate frame, in the unit of
        depth.
    brightness: (B, 2) gain a and offset b, so that a * earlier + b matches the later image; or None if it is not
        predicted.
    """

    T_later_earlier: Tensor
    brightness: Tensor | None


MOMENT_SCALE = 10  # weights of 0.1 map the scaled moments to brightness: 100 steps from 0 at a learning rate of 1e-3


class PoseNet(nn.Module):
    """The pose network: an encoder of image pairs, a motion head, and optional heads for gain and offset.

    The heads for gain and offset exist with `config.brightness`.

    config: configuration; uses `pose_net`, `pose_head`, `rotation` and the scales. Predicted rotations are in radians,
        translations in the unit of depth.
    depth_encoder: the depth network's encoder, which the `pose_net` "shared" uses, or None.
    size: (height, width) of the training images, which the head "linear" requires.
    """

    def __init__(
        self, config: DepthPoseNetConfig, depth_encoder: Encoder | None, *, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.encoder = POSE_NETS.load(config.pose_net)(config, depth_encoder)
        head, stride = POSE_HEADS.load(config.pose_head), self.encoder.strides[-1]
        grid = size and (-(-size[0] // stride), -(-size[1] // stride))
        channels, like = self.encoder.channels[-1], (ACTIVATIONS.load(config.activation), grid)
        self.rotation_numbers = ROTATION_NUMBERS.get(config.rotation, 3)
        self.head = head(channels, self.rotation_numbers + 3, *like)
        if not config.pose_bias:
            own = [self.head] if config.pose_net == "shared" else [self.head, self.encoder]
            for layer in (layer for module in own for layer in module.modules()):
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.register_parameter("bias", None)
        self.gain, self.offset = (head(channels, 1, *like) if config.brightness else None for _ in range(2))
        for each in filter(None, (self.gain, self.offset)):
            nn.init.zeros_(each[-1].weight)
            nn.init.zeros_(each[-1].bias)
        self.from_moments = nn.Linear(2, 2, bias=False) if config.brightness else None
        if self.from_moments is not None:
            nn.init.zeros_(self.from_moments.weight)
        self.rotation: Callable[[Tensor], Tensor] = ROTATIONS.load(config.rotation)
        self.translation_scale = config.translation_scale

    def forward(self, earlier: Tensor, later: Tensor, moments: Tensor | None = None) -> PairMotion:
        """Predict the camera motion, and optionally the brightness change, between two images in temporal order.

        earlier, later: (B, 3, H, W) RGB in [0, 1]; for the `pose_net` "shared", the depth encoder's coarsest features
            (B, C, h, w) of each image.
        moments: (B, 2) result of `compare_image_moments` for the two images, which predicts brightness; None predicts
            no brightness.
        """
        features = self.encoder(torch.cat([earlier, later], dim=1))[-1]
        T_later_earlier = self.transform(self.head(features).float())
        if self.gain is None or self.offset is None or self.from_moments is None or moments is None:
            return PairMotion(T_later_earlier, None)
        logits = torch.cat([self.gain(features), self.offset(features)], dim=1).float()
        logits = logits + self.from_moments(moments * (MOMENT_SCALE / BRIGHTNESS_SCALE)).float()
        return PairMotion(T_later_earlier, decode_brightness(logits))

    def motion_values(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Return the raw output (B, n + 3) of the motion head, which `transform` converts to a motion.

        n is the number of values of a rotation, 3, 6 or 9.

        earlier, later: images (B, 3, H, W) or features, as in `forward`.
        """
        values: Tensor = self.head(self.encoder(torch.cat([earlier, later], dim=1))[-1])
        return values

    def transform(self, values: Tensor) -> Tensor:
        """Convert raw outputs of the motion head to motions (B, 4, 4) from the earlier to the later camera.

        values: (B, n + 3) float32; the first n values give the rotation, and the last three the translation.
        """
        rotation = self.rotation(ROTATION_SCALE * values[:, : self.rotation_numbers])
        return from_rotation_translation(rotation, self.translation_scale * values[:, self.rotation_numbers :])


ROTATION_SCALE = 0.01
"""Factor on the pose head's rotation, so that training starts near the identity."""

POLAR_STEPS = 12
"""Number of Newton steps of `matrix9d`; enough for condition numbers up to 1000."""


def euler_to_matrix(angles: Tensor, order: str = "xyz") -> Tensor:
    """Convert angles (..., 3) in radians about the fixed axes x, y and z to rotations (..., 3, 3).

    angles: (..., 3) angles about x, about y and about z, always in this order.
    order: order of the rotations about the axes, such as "xyz".
    """
    return matrix_from_euler(angles[..., ["xyz".index(axis) for axis in order]], order)


def euler_xyz(angles: Tensor) -> Tensor:
    """Convert angles (..., 3) about x, then y, then z to rotations Rz Ry Rx, (..., 3, 3)."""
    return euler_to_matrix(angles, "xyz")


def euler_zyx(angles: Tensor) -> Tensor:
    """Convert angles (..., 3) about z, then y, then x to rotations Rx Ry Rz, (..., 3, 3).

    The order is R = R_roll R_pitch R_yaw.
    """
    return euler_to_matrix(angles, "zyx")


def matrix6d(values: Tensor) -> Tensor:
    """Convert values (..., 6) to rotations (..., 3, 3): the first two columns of R minus the identity's.

    The columns are made orthonormal by Gram-Schmidt (arXiv 1812.07035, eq. 15). Zeros give the identity.
    """
    identity = torch.eye(3, dtype=values.dtype, device=values.device)
    x = F.normalize(identity[0] + values[..., :3], dim=-1)
    second = identity[1] + values[..., 3:]
    y = F.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def matrix9d(values: Tensor) -> Tensor:
    """Convert values (..., 9), a 3x3 matrix minus the identity, to the nearest rotations (..., 3, 3).

    The values are in row-major order.

    The nearest rotation is U V^T of the singular value decomposition (arXiv 2006.14616). Because the decomposition has
    an infinite derivative at the identity, Newton steps X <- (X + X^-T) / 2 compute it instead (Higham, SIAM 1986). If
    the result is a reflection, its negative is returned.
    """
    identity = torch.eye(3, dtype=values.dtype, device=values.device)
    R = identity + values.reshape(*values.shape[:-1], 3, 3)
    for _ in range(POLAR_STEPS):
        R = (R + torch.linalg.inv(R).transpose(-1, -2)) / 2
    return R * torch.linalg.det(R).detach().sign()[..., None, None]


class DepthPoseNet(nn.Module):
    """Apply the depth network to the target image, and the pose network to each pair of neighboring video frames.

    The pose network receives pairs in temporal order. For a source image before the target its output is inverted. The
    motion between the cameras of a stereo pair comes from the calibration; with `brightness` the pose network predicts
    the brightness change of a stereo pair too.

    config: configuration of both networks.
    motion: create a pose network. Without pairs of video frames nothing would train it.
    size: (height, width) of the training images; some pose heads require it.
    """

    def __init__(self, config: DepthPoseNetConfig, *, motion: bool = True, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.depth = build_depth_network(config)
        self.pose = PoseNet(config, getattr(self.depth, "encoder", None), size=size) if motion else None
        self.brightness = motion and config.brightness
        self.holds_depth = False  # the depth network stays unchanged, and needs no gradient

    @property
    def weights(self) -> dict[str, InitialWeights]:
        """Return the origin of the initial weights of both networks, by the name of the component."""
        encoder = self.pose.encoder if self.pose else None
        return self.depth.weights | ({"pose_encoder": encoder.weights} if isinstance(encoder, Encoder) else {})

    def modules_to_compile(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles: those whose forward pass a training step calls."""
        return [*self.depth.modules_to_compile(), *([] if self.pose is None else [self.pose])]

    def forward(self, batch: Batch) -> Prediction:
        """Predict inverse depth of the target image, the motions from it to each source image, and more.

        The configuration decides about the right camera's inverse depth, log uncertainty and brightness changes.

        batch: target and source images with their cameras.
        """
        if self.pose is not None and isinstance(self.pose.encoder, SharedPoseEncoder):
            features = self._shared.encoder(batch.inputs.image)
            maps = self._shared.decode(features, batch.inputs.image, batch.inputs.camera)
            T_source_target, brightness = self._transforms(batch, features[-1])
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.holds_depth):
                maps = self.depth(batch.inputs.image, batch.inputs.camera)
            T_source_target, brightness = self._transforms(batch)
        uncertainty = maps.log_uncertainty if self.config.network.predicts_uncertainty else None
        return Prediction(maps.inverse_depth, T_source_target, maps.inverse_depth_right, uncertainty, brightness)

    @property
    def _shared(self) -> Unet:
        assert isinstance(self.depth, Unet)
        return self.depth

    def motion(self, earlier: Tensor, later: Tensor) -> PairMotion | None:
        """Predict the motion from the earlier to the later of two images; None without a pose network.

        earlier, later: (B, 3, H, W) RGB in [0, 1], in temporal order.
        """
        if self.pose is None:
            return None
        moments = compare_image_moments(earlier, later) if self.brightness else None
        motion: PairMotion = self.pose(*self._pose_inputs(earlier, later), moments)
        return motion

    def motion_values(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Return the raw output (B, n + 3) of the pose head for two images in temporal order, for `PoseNet.transform`.

        n is the number of values of a rotation. This needs a pose network.

        earlier, later: (B, 3, H, W) RGB in [0, 1].
        """
        assert self.pose is not None
        return self.pose.motion_values(*self._pose_inputs(earlier, later))

    def _pose_inputs(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        if self.pose is not None and isinstance(self.pose.encoder, SharedPoseEncoder):
            return self._shared.encoder(earlier)[-1], self._shared.encoder(later)[-1]
        return earlier, later

    def _transforms(self, batch: Batch, features: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return transforms (B, N, 4, 4) and brightness (B, N, 2), from one pass of the pose network over all pairs.

        features: the target's coarsest features in a shared encoder.
        """
        transforms = list(batch.inputs.T_source_target_rig.unbind(1))
        brightness = []
        indices = [i for i, name in enumerate(batch.source_names) if is_temporal(name) or self.brightness]
        if indices and self.pose is not None:
            before = [batch.source_names[i].startswith("-") for i in indices]
            images = _sort_by_time(batch.inputs.image, [batch.inputs.sources[:, i] for i in indices], before)
            moments = compare_image_moments(*images) if self.brightness else None
            inputs = images
            if features is not None:
                sources = self._shared.encoder(torch.cat([batch.inputs.sources[:, i] for i in indices]))[-1]
                inputs = _sort_by_time(features, list(sources.chunk(len(indices))), before)
            elif isinstance(self.pose.encoder, CorrelationPoseEncoder):  # the target is in every pair
                frames = [batch.inputs.image, *(batch.inputs.sources[:, i] for i in indices)]
                target, *each = self.pose.encoder.encode_frames(torch.cat(frames)).chunk(len(frames))
                inputs = _sort_by_time(target, each, before)
            T_later_earlier, pair_brightness = self.pose(*inputs, moments)
            for i, b, T in zip(indices, before, T_later_earlier.chunk(len(indices)), strict=True):
                if is_temporal(batch.source_names[i]):
                    transforms[i] = invert_pose(T) if b else T
            if self.brightness:
                pairs = zip(before, pair_brightness.chunk(len(indices)), strict=True)
                brightness = [invert_brightness(pair) if b else pair for b, pair in pairs]
        return torch.stack(transforms, dim=1), torch.stack(brightness, dim=1) if brightness else None


def _sort_by_time(target: Tensor, sources: list[Tensor], before: list[bool]) -> tuple[Tensor, Tensor]:
    earlier = torch.cat([source if b else target for source, b in zip(sources, before, strict=True)])
    later = torch.cat([target if b else source for source, b in zip(sources, before, strict=True)])
    return earlier, later
