"""`DepthNetwork`: the interface through which trainings and predictions use every depth network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from stadia.core.errors import ConfigError
from stadia.core.types import Camera, DepthScale
from stadia.differentiable import torch_state
from stadia.networks import DEPTH_NETWORK_CONFIGS, DEPTH_NETWORKS
from stadia.networks.config import DepthModelConfig, DepthNetworkConfig, check_size_multiple
from stadia.networks.encoders import InitialWeights


def compute_focal_ratio(camera: Camera, canonical_focal: float) -> Tensor:
    """Return the ratio of a camera's focal length to the canonical one, (B, 1, 1, 1).

    Both focal lengths are relative to the image size.

    A camera of focal length f sees an object at depth z as the canonical camera sees it at depth z f_canonical / f. So
    depth in the canonical camera times this ratio is depth in metres.

    camera: camera with K (B, 3, 3) or (3, 3). Its relative focal length is sqrt(fx fy / (height width)).
    canonical_focal: relative focal length of the canonical camera.
    """
    focal = (camera.K[..., 0, 0] * camera.K[..., 1, 1] / (camera.height * camera.width)).sqrt()
    return (focal / canonical_focal).reshape(-1, 1, 1, 1).float()


def find_depth_range(config: DepthNetworkConfig, camera: Camera) -> tuple[Tensor, Tensor] | None:
    """Return the smallest and largest depth in metres that the network can predict, or None.

    Each is (B, 1, 1, 1). None means no bounds.

    If the network predicts depth of a canonical camera, its bounds are multiplied by the ratio of the focal lengths.

    config: configuration of the depth network.
    camera: camera of the images.
    """
    limits, canonical = config.depth_range_m, getattr(config, "canonical_focal", None)
    if limits is None:
        return None
    ratio = camera.K.new_ones(1, 1, 1, 1) if canonical is None else compute_focal_ratio(camera, canonical)
    return limits[0] * ratio, limits[1] * ratio


def list_trainable(*modules: nn.Module | None) -> list[nn.Parameter]:
    """Return the parameters of the given modules that require gradients; modules that are None are skipped."""
    every = (parameter for module in modules if module is not None for parameter in module.parameters())
    return [parameter for parameter in every if parameter.requires_grad]


class DepthMaps(NamedTuple):
    """The outputs of a depth network: tuples of float32 maps (B, 1, H / 2^s, W / 2^s), one per scale s, finest first.

    inverse_depth: positive inverse depth, in 1/m if the network predicts metres.
    inverse_depth_right: inverse depth of the stereo rig's right camera, or None if it is not predicted.
    log_uncertainty: log Sigma, the logarithm of the predicted scale of the photometric residual, or None if it is not
        predicted.
    """

    inverse_depth: tuple[Tensor, ...]
    inverse_depth_right: tuple[Tensor, ...] | None = None
    log_uncertainty: tuple[Tensor, ...] | None = None


class DepthNetwork(nn.Module):
    """The base class of networks that predict inverse depth from an image.

    A subclass defines `__init__` and `forward`. Everything else has defaults.

    Config: class of the network's configuration (`DepthNetworkConfig`), with the network's own keys.
    output: scale of the predicted depth before training: metres, up to scale, or up to scale and shift.
    mean, std: mean and standard deviation of RGB in [0, 1], with which `normalize` normalizes images.
    uses_camera: whether the predicted depth depends on the camera passed to `forward`. If not, trainings on several
        cameras correct the depth by the ratio of the focal lengths.
    exports_one_size: whether an exported network accepts one image of one size only.
    licence: licence of the published weights, or "".
    source: address of the paper or the repository.
    keeps_statistics: whether batch normalization keeps its stored mean and variance during training.
    is_pretrained: whether weights that predict depth were loaded.

    Arguments of `__init__`:

    config: configuration of the network.
    pretrained: start from published weights, if there are any.

    Example:
        >>> class Constant(DepthNetwork):
        ...     def __init__(self, config: DepthNetworkConfig, *, pretrained: bool = True) -> None:
        ...         super().__init__(config)
        ...         self.inverse_depth = nn.Parameter(torch.tensor(1 / config.start_m))
        ...     def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        ...         return DepthMaps((self.inverse_depth.expand_as(image[:, :1]),))
        >>> maps = Constant(DepthNetworkConfig(name="mine:Constant"))(torch.rand(2, 3, 64, 96))
        >>> maps.inverse_depth[0].shape
        torch.Size([2, 1, 64, 96])
    """

    Config: ClassVar[type[DepthNetworkConfig]] = DepthNetworkConfig
    output: DepthScale = DepthScale.UP_TO_SCALE
    mean: ClassVar[tuple[float, float, float]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, float, float]] = (0.229, 0.224, 0.225)
    uses_camera: bool = False
    exports_one_size: ClassVar[bool] = False
    licence: str = ""
    source: str = ""
    keeps_statistics: bool = False
    is_pretrained: bool = False
    _mean: Tensor
    _std: Tensor

    def __init__(self, config: DepthNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self._bf16_handles: list[Any] = []
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Predict the depth maps of images.

        image: (B, 3, H, W) RGB in [0, 1].
        camera: camera of the images with K (B, 3, 3), or None if it is unknown. Only networks with `uses_camera` use
            it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def normalize(self, image: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) as (image - mean) / std."""
        return (image - self._mean) / self._std

    @property
    def weights(self) -> dict[str, InitialWeights]:
        """Return the origin of the initial weights of each component of the network, by the component's name.

        The values are "random", "pretrained", or "pretrained" with the source.
        """
        return {"network": "pretrained" if self.is_pretrained else "random"}

    @property
    def predicts_depth_at_start(self) -> bool:
        """Return whether the network predicts depth before any training, because depth weights were loaded."""
        return self.is_pretrained

    @property
    def has_depth_weights(self) -> bool:
        """Return whether weights that predict depth exist for this configuration, even if they were not loaded."""
        return self.predicts_depth_at_start

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters that come from published weights. A training may give them a lower learning
        rate.
        """
        return []

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters that are not part of the backbone."""
        backbone = {id(parameter) for parameter in self.backbone_parameters()}
        return [parameter for parameter in list_trainable(self) if id(parameter) not in backbone]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the last layers; by default the parameters of the whole decoder."""
        return self.decoder_parameters()

    def choose_trained(self, config: DepthModelConfig) -> None:
        """Freeze all parameters except those that the configuration key `model.trained` selects.

        config: its `trained` is "all", "decoder", "head" or "adapters". Its `backbone_precision` "bf16" stores the
            frozen backbone in bfloat16.

        Raises ConfigError if the network has no backbone or no decoder to select.
        """
        if config.trained == "all":
            return
        backbone = self.backbone_parameters()
        if config.trained == "adapters":
            freeze_all_but(self, backbone or self.parameters())
            add_adapters(self, config.adapter_rank)
        else:
            trained = self.head_parameters() if config.trained == "head" else self.decoder_parameters()
            if not backbone or not trained:
                key, expected = f"model.trained={config.trained}", "a network with a backbone and a decoder"
                raise ConfigError(key, found=f"'{self.config.name}'", expected=expected, fix="leave it out")
            freeze_all_but(self, trained)
        if config.backbone_precision == "bf16":
            self._bf16_handles = store_in_bf16(backbone, self)

    def finish_training(self) -> None:
        """Merge adapters and store all weights in float32, so that the network is ready for predictions."""
        if self._bf16_handles:
            restore_float32(self, self._bf16_handles)
            self._bf16_handles = []
        merge_adapters(self)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode of all modules.

        Frozen batch normalization keeps its statistics in both modes. With `keeps_statistics`, all batch normalization
        does.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                is_frozen = module.weight is not None and not module.weight.requires_grad
                if self.keeps_statistics or is_frozen:
                    module.eval()
        return self

    def modules_to_compile(self) -> list[nn.Module]:
        """Return the modules that torch.compile compiles if the configuration key `training.compile` is set."""
        return [child for child in self.children() if any(p.requires_grad for p in child.parameters())]

    def enable_gradient_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of storing them, if the network supports this."""

    @classmethod
    def check_config(cls, config: Any, *, height: int, width: int) -> None:
        """Raise ConfigError if the network cannot be built for images of a size. No weights are created.

        config: configuration of the network.
        height, width: image size in pixels.
        """
        check_size_multiple(config.name, config.size_multiple, height=height, width=width)

    @classmethod
    def check_weights(cls, config: Any) -> None:
        """Raise CheckpointError if the configuration requires published weights that this machine cannot get."""

    @property
    def min_inverse_depth(self) -> Tensor:
        """Return the smallest inverse depth that the network can predict, a scalar tensor; 0 if depth has no upper
        limit.

        At this bound the output may have no gradient.
        """
        limits = self.config.depth_range_m
        return torch.tensor(0.0 if limits is None else 1 / limits[1])

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) of an image after resizing for a prediction if no training determined a size.

        height, width: size of the image in pixels.
        """
        multiple = self.config.size_multiple
        return max(round(height / multiple), 1) * multiple, max(round(width / multiple), 1) * multiple

    @property
    def training_focal(self) -> float | None:
        """Return fx / width of the images whose depth the published weights predict in metres; None if unknown."""
        return None

    def predict_focal(self, image: Tensor) -> Tensor | None:
        """Return the focal length that the network predicts from images, as fx / width (B,); None if it predicts none.

        image: (B, 3, H, W) RGB in [0, 1].
        """
        return None


class AffineDepthNetwork(DepthNetwork):
    """A depth network whose raw output is inverse depth up to scale and shift: inverse depth = scale * raw + shift.

    A subclass defines `raw` and calls `register_scale`. `calibrate` sets scale and shift, which checkpoints store.

    scale, shift: scalar buffers.
    """

    MIN_INVERSE_DEPTH: ClassVar[float] = 1e-8
    """Predicted inverse depth that is smaller than this, in 1/m, is raised to it (as in isl-org/DPT)."""

    output: DepthScale = DepthScale.AFFINE_INVERSE
    scale: Tensor
    shift: Tensor

    def register_scale(self, scale: float, shift: float) -> None:
        """Create the buffers `scale` and `shift` with these initial values."""
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))

    def raw(self, image: Tensor) -> Tensor:
        """Return the raw output (B, 1, H, W), which is at least 0 and larger for nearer points.

        image: (B, 3, H, W) RGB in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} defines no raw")

    def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Predict inverse depth max(scale * raw + shift, MIN_INVERSE_DEPTH), as one map (B, 1, H, W).

        image: (B, 3, H, W) RGB in [0, 1].
        camera: not used.
        """
        inverse_depth = (self.scale * self.raw(image).float() + self.shift).clamp(min=self.MIN_INVERSE_DEPTH)
        return DepthMaps((inverse_depth,))

    def calibrate(self, scale: float, shift: float) -> None:
        """Set the scale and shift that convert raw output to inverse depth in 1/m.

        Raises ConfigError if the scale is not positive or a number is not finite.
        """
        if not (torch.tensor([scale, shift]).isfinite().all() and scale > 0):
            found = f"scale {scale:g} and shift {shift:g}"
            fix = "check the unit of the ground truth"
            raise ConfigError("calibration", found=found, expected="a positive scale", fix=fix)
        self.scale.fill_(scale)
        self.shift.fill_(shift)

    @property
    def min_inverse_depth(self) -> Tensor:
        """Return the smallest inverse depth that the network can predict, a scalar tensor in the unit of its output."""
        return self.shift.clamp(min=self.MIN_INVERSE_DEPTH)


def build_depth_network(config: DepthModelConfig) -> DepthNetwork:
    """Build the depth network that `config.network` chooses, with its initial weights, in training mode.

    Raises ConfigError if your own network class does not fit the interface of `DepthNetwork`.
    """
    name = config.network.name
    network_class = DEPTH_NETWORKS.load(name)
    if name in DEPTH_NETWORK_CONFIGS:
        network: DepthNetwork = network_class(config.network, pretrained=config.pretrained)
    else:
        network = _build_own(name, network_class, config)
    if config.checkpoint_gradients:
        network.enable_gradient_checkpointing()
    network.choose_trained(config)
    network.keeps_statistics = config.keep_statistics
    return network.train()  # published weights are loaded in evaluation mode


def _build_own(name: str, network_class: Any, config: DepthModelConfig) -> DepthNetwork:
    fix = "docs/how-to/add-a-depth-network.md has an example"
    if not (isinstance(network_class, type) and issubclass(network_class, DepthNetwork)):
        expected = "a class that derives from DepthNetwork"
        raise ConfigError("model.network", found=f"'{name}'", expected=expected, fix=fix)
    constructor: Any = network_class
    try:
        network: DepthNetwork = constructor(config.network, pretrained=config.pretrained)
    except TypeError as error:
        expected = "a constructor (config, *, pretrained)"
        raise ConfigError("model.network", found=f"'{name}': {error}", expected=expected, fix=fix) from error
    return network


def check_trains(config: DepthModelConfig) -> None:
    """Raise ConfigError if the depth network passes no gradients and so cannot be trained.

    Such networks are run by a Python package of their authors.
    """
    if package := config.network.package:
        found, expected = f"a network of the package {package}, which passes no gradients", "one that trains"
        fix = f"let it teach: teacher={getattr(config.network, 'source', config.network.name)}"
        raise ConfigError("model.network", found=found, expected=expected, fix=fix)


def check_depth_network(config: DepthModelConfig, sizes: Iterable[tuple[int, int]]) -> None:
    """Raise ConfigError if the depth network cannot be built for one of these image sizes.

    Your own network is built with random weights and predicts one random image of each size.

    config: configuration of the depth network.
    sizes: image sizes (height, width) in pixels.
    """
    name = config.network.name
    sizes = list(dict.fromkeys(sizes))
    for height, width in sizes:
        DEPTH_NETWORKS.load(name).check_config(config.network, height=height, width=width)
    if name in DEPTH_NETWORK_CONFIGS:
        return
    with torch_state.preserve_generators():
        network = build_depth_network(config.model_copy(update={"pretrained": False}))
        for height, width in sizes:
            check_outputs(network, height, width)


@torch.no_grad()
def check_outputs(network: DepthNetwork, height: int, width: int) -> None:
    """Raise ConfigError if the network's outputs for a random image contradict its configuration.

    The number and sizes of the maps must be those that the configuration announces, and inverse depth must be finite
    and positive.

    height, width: size of the random image in pixels.
    """
    config, was_training = network.config, network.training
    key, fix = f"model.network={config.name}", "docs/how-to/add-a-depth-network.md has an example"
    devices = {parameter.device for parameter in network.parameters()}
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    camera = Camera(torch.tensor([[[width, 0.0, width / 2], [0, width, height / 2], [0, 0, 1]]]), height, width)
    maps: Any = network.eval()(image.to(next(iter(devices), "cpu")), camera)
    network.train(was_training)
    if not isinstance(maps, DepthMaps):
        raise ConfigError(key, found=f"an output of type {type(maps).__name__}", expected="DepthMaps", fix=fix)
    needed: dict[str, Sequence[Tensor] | None] = {"inverse_depth": maps.inverse_depth}
    if config.predicts_right_view:
        needed["inverse_depth_right"] = maps.inverse_depth_right
    if config.predicts_uncertainty:
        needed["log_uncertainty"] = maps.log_uncertainty
    for name, scales in needed.items():
        if scales is None:
            raise ConfigError(key, found=f"an output without {name}", expected="the maps that it announces", fix=fix)
        shapes = [tuple(scale.shape) for scale in scales]
        announced = [(1, 1, height >> scale, width >> scale) for scale in range(config.num_scales)]
        if shapes != announced:
            raise ConfigError(key, found=f"{name} of shapes {shapes}", expected=str(announced), fix=fix)
    if not all(bool(((scale > 0) & scale.isfinite()).all()) for scale in maps.inverse_depth):
        found, expected = "inverse depth that is not finite and positive", "positive numbers"
        raise ConfigError(key, found=found, expected=expected, fix=fix)


ADAPTER_PREFIX = "lora_"
"""The Python package peft begins components of the names of adapter weights with this prefix."""

BASE_LAYER = "base_layer"
"""The Python package peft inserts this component into the parameter names of a layer that has an adapter."""


def import_peft() -> Any:
    """Import the Python package peft, which takes seconds, and return the module. Raises ConfigError if it is not
    installed.
    """
    if find_spec("peft") is None:
        fix = "pip install 'stadia[adapters]'"
        raise ConfigError("model.trained=adapters", found="no package peft", expected="the extra 'adapters'", fix=fix)
    import stadia.differentiable.torchvision_operators  # noqa: F401

    # isort: split

    import peft

    return peft


def freeze_all_but(network: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Freeze all parameters of a network except the given ones."""
    kept = {id(parameter) for parameter in trained}
    for parameter in list(network.parameters()):
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def find_adapted_layers(network: nn.Module, rank: int) -> list[str]:
    """Return the names of the layers of a network that get a low-rank adapter.

    These are the trainable linear layers and ungrouped convolutions with more input and output channels than the rank.

    rank: rank of the adapters.
    """
    return [
        name
        for name, module in network.named_modules()
        if (type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1))
        and module.weight.requires_grad
        and min(module.weight.shape[:2]) > rank
    ]


def add_adapters(network: nn.Module, rank: int) -> list[str]:
    """Freeze a network and add trainable low-rank adapters to its layers; return the names of these layers.

    The output does not change at first, because one matrix of each adapter is zero.

    network: changed in place.
    rank: rank of the adapters.

    Raises ConfigError if no layer is wider than the rank.
    """
    peft = import_peft()
    names = find_adapted_layers(network, rank)
    if not names:
        expected, fix = "layers that are wider than the rank", "choose a smaller model.adapter_rank"
        raise ConfigError(f"model.adapter_rank={rank}", found="no such layer", expected=expected, fix=fix)
    holder = nn.Module()  # It has no attribute `config`, by which peft recognizes networks of transformers.
    holder.network = network
    layers = [f"network.{name}" for name in names]
    config = peft.LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=layers)
    peft.inject_adapter_in_model(config, holder)
    return names


def merge_adapters(network: nn.Module) -> None:
    """Add the product of each low-rank adapter to the weights of its layer and remove the adapter, in place."""
    for name, module in list(network.named_modules()):
        if hasattr(module, "get_base_layer") and hasattr(module, "merge"):
            layer: Any = module
            layer.merge(safe_merge=False)
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())


def name_for_adapters(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Rename the weights of a network without adapters to the names that they have in the same network with adapters.

    The tensors do not change.

    weights: weights of the network without adapters, by name.
    own: parameter names of the network with adapters.
    """
    plain = {name.replace(f".{BASE_LAYER}.", "."): name for name in own}
    return {plain.get(name, name): tensor for name, tensor in weights.items()}


def list_adapter_names(names: Iterable[str]) -> list[str]:
    """Return the parameter names that belong to low-rank adapters."""
    return [name for name in names if any(part.startswith(ADAPTER_PREFIX) for part in name.split("."))]


def store_in_bf16(parameters: Iterable[nn.Parameter], network: nn.Module) -> list[Any]:
    """Store and run the frozen linear layers and convolutions that have the given parameters in bfloat16.

    The inputs and outputs of these layers stay in float32, by hooks. Returns the handles of the hooks, for
    `restore_float32`.

    parameters: parameters that may be stored in bfloat16, such as the backbone's.
    network: changed in place.
    """
    chosen = {id(parameter) for parameter in parameters}
    handles = []
    for module in _list_layers(network):
        if id(module.weight) in chosen and not any(p.requires_grad for p in module.parameters(recurse=False)):
            module.to(torch.bfloat16)
            handles += [module.register_forward_pre_hook(_to_bf16), module.register_forward_hook(_to_float32)]
    return handles


def restore_float32(network: nn.Module, handles: Iterable[Any]) -> None:
    """Store all layers in float32 again, and remove the hooks of `store_in_bf16`."""
    for handle in handles:
        handle.remove()
    for module in _list_layers(network):
        module.float()


def _list_layers(network: nn.Module) -> Iterator[Any]:
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            yield module


def _to_bf16(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.to(torch.bfloat16) if isinstance(value, Tensor) else value for value in inputs)


def _to_float32(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.float()
