"""The depth network `published`: any depth network of transformers or of its authors' package, with its weights."""

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError, ConfigError, summarize_exception
from stadia.core.types import DepthScale
from stadia.networks.depth.depth_network import AffineDepthNetwork, list_trainable
from stadia.networks.depth.dpt import check_transformers_installed, import_transformers
from stadia.networks.depth.dpt_weights import find_unneeded
from stadia.networks.depth.published_config import DepthAnythingConfig, PublishedConfig
from stadia.networks.encoders import InitialWeights
from stadia.networks.published_files import PublishedFiles, download_repository, find_published_files
from stadia.networks.weight_files import limit_parameters, refuse_differences
from stadia.predict.networks.published_networks import PACKAGES, PUBLISHED_NETWORKS

MIN_DEPTH_M = 1e-3
"""Predicted depth is at least this, metres, before it is inverted."""

MAX_DEPTH_M = 1e4
"""Predicted depth is at most this, metres, before it is inverted."""


class Published(AffineDepthNetwork):
    """A published depth network, run by transformers or its authors' package, with its own normalization.

    The raw output is 1 / depth if the network predicts metres or depth up to scale. It is inverse depth up to scale and
    shift if the network predicts that, and 1 minus depth if the network predicts depth up to scale and shift.
    """

    Config: ClassVar[type[PublishedConfig]] = PublishedConfig
    exports_one_size: ClassVar[bool] = True
    source = "https://huggingface.co/models?pipeline_tag=depth-estimation"
    config: PublishedConfig

    def __init__(self, config: PublishedConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.output, self.licence = config.depth_scale, config.licence
        self.kind: str = config.architecture["model_type"]
        self.preprocessing = config.preprocessing
        self._mean = torch.tensor(self.preprocessing.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocessing.std).view(1, 3, 1, 1)
        self.network = self._build(pretrained=pretrained)
        self.is_pretrained = pretrained
        for parameter in find_unused_parameters(self.network):
            parameter.requires_grad_(False)
        self.register_scale(1.0, 0.0)

    def _build(self, *, pretrained: bool) -> Any:
        if self.config.package:
            entry = PUBLISHED_NETWORKS.get(self.config.source)
            if not pretrained or entry is None or entry.package != self.config.package:
                found, expected = (
                    f"a checkpoint of a network of {self.config.package}",
                    "a name that it is published by",
                )
                raise CheckpointError(self.config.source, found=found, expected=expected, fix="stadia list networks")
            return load_package_network(self.config.source)
        check_transformers_installed()
        return load_published(self.config) if pretrained else build_published(self.config)

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return self.preprocessing.image_size(height, width)

    @property
    def training_focal(self) -> float | None:
        return self.config.focal

    @property
    def weights(self) -> dict[str, InitialWeights]:
        return {"network": f"pretrained {self.config.title}" if self.is_pretrained else "random"}

    @property
    def has_depth_weights(self) -> bool:
        return True

    @classmethod
    def check_config(cls, config: Any, *, height: int, width: int) -> None:
        if not config.package:
            check_transformers_installed()
        super().check_config(config, height=height, width=width)

    @classmethod
    def check_weights(cls, config: PublishedConfig) -> None:
        if not config.package:
            find_published_files(config.source).list_weight_files()

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list_trainable(*(getattr(self.network, name, None) for name in ("backbone", "dpt", "glpn", "depth_pro")))

    def head_parameters(self) -> list[nn.Parameter]:
        return list_trainable(*(getattr(self.network, name, None) for name in ("head", "relative_head", "metric_head")))

    def enable_gradient_checkpointing(self) -> None:
        if self.network.supports_gradient_checkpointing:
            self.network.gradient_checkpointing_enable()

    def raw(self, image: Tensor) -> Tensor:
        """Return inverse depth, or a value that grows with it (B, 1, H, W), of images (B, 3, H, W), RGB in [0, 1]."""
        height, width = image.shape[-2:]
        inside, margins = image, (0, 0)
        if self.preprocessing.margins:
            margins = compute_margin(height), compute_margin(width)
            inside = functional.pad(image, (margins[1], margins[1], margins[0], margins[0]), mode="reflect")
        padded = inside.shape[-2:]
        size = self.preprocessing.round_up(*padded)
        inside = functional.interpolate(inside, size=size, mode="bilinear", align_corners=False)
        try:
            output = self._to_nearness(self._run(self.normalize(inside)).float())
        except (AttributeError, LookupError, TypeError, ValueError) as error:  # the configuration may contain anything
            raise _refuse_architecture(self.config, error) from error
        output = functional.interpolate(output[:, None], size=padded, mode="bilinear", align_corners=False)
        return output[..., margins[0] : margins[0] + height, margins[1] : margins[1] + width]

    def _run(self, pixels: Tensor) -> Tensor:
        """Return the output (B, H, W) for normalized images (B, 3, H, W)."""
        network: Any = self.network
        if self.config.package:
            depth: Tensor = network.predict(pixels)[0]
            unit_px = self.config.architecture.get("focal_unit_px")
            return depth if unit_px is None else depth * pixels.shape[-1] / unit_px  # The result is for fx / width = 1.
        if self.kind != "dpt" or network.backbone is not None:
            predicted: Tensor = network(pixel_values=pixels).predicted_depth
            return predicted
        # The network accepts any grid of patches, not only square ones.
        outputs = network.dpt(pixels, output_hidden_states=True)
        indices, states = network.config.backbone_out_indices, outputs.hidden_states[1:]
        features: list[Tensor] = []
        if network.config.is_hybrid:
            features, indices = list(outputs.intermediate_activations), indices[2:]
        features += [state for index, state in enumerate(states) if index in indices]
        patch = network.config.patch_size
        grid = pixels.shape[-2] // patch, pixels.shape[-1] // patch
        output: Tensor = network.head(network.neck(features, *grid))
        return output

    def predict_focal(self, image: Tensor) -> Tensor | None:
        """Return the focal length that the network predicts from images, as fx / width (B,); None if it predicts none.

        image: (B, 3, H, W) RGB in [0, 1].
        """
        height, width = self.preprocessing.round_up(*image.shape[-2:])
        if self.config.package:
            resized = functional.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
            focal: Tensor | None = self.network.predict(resized)[1]
            return focal
        if getattr(self.network, "fov_model", None) is None:
            return None
        pixels = functional.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
        field_of_view_deg: Tensor | None = self.network(pixel_values=self.normalize(pixels)).field_of_view
        if field_of_view_deg is None:
            return None
        return 0.5 / torch.tan(torch.deg2rad(field_of_view_deg.float().reshape(-1).clamp(1, 179)) / 2)

    def _to_nearness(self, output: Tensor) -> Tensor:
        """Return inverse depth, or values in its order."""
        if self.output is DepthScale.AFFINE_DEPTH and self.config.package:
            return output.amax((1, 2), keepdim=True) - output
        if self.output is DepthScale.AFFINE_DEPTH:
            return output if self.kind == "chmv2" else 1 - output  # heights are nearer to a camera above
        if self.kind in ("depth_pro", "dpt") or self.output is DepthScale.AFFINE_INVERSE:
            return output
        return 1 / output.clamp(MIN_DEPTH_M, MAX_DEPTH_M)


class DepthAnything(Published):
    """Depth Anything V2 (arXiv 2406.09414): DINOv2 with patches of 14 pixels and a DPT decoder."""

    Config = DepthAnythingConfig
    source = "https://arxiv.org/abs/2406.09414"


def compute_margin(side: int) -> int:
    """Return how many pixels of mirrored margin ZoeDepth adds at each end of an image side (arXiv 2302.12288).

    side: height or width of the image in pixels.
    """
    return math.floor(math.sqrt(side / 2) * 3)


def build_published(config: PublishedConfig) -> Any:
    """Build the network of a configuration by the package transformers, with random weights.

    Raises CheckpointError if it cannot be built.
    """
    transformers = import_transformers()
    try:
        return transformers.AutoModelForDepthEstimation.from_config(make_architecture(config))
    except CheckpointError:
        raise
    except Exception as error:
        raise _refuse_architecture(config, error) from error


def _refuse_architecture(config: PublishedConfig, error: Exception) -> CheckpointError:
    found, fix = f"one that fails ({summarize_exception(error)})", "use the config.json of the published network"
    expected = "an architecture of transformers"
    return CheckpointError(f"architecture of {config.source}", found=found, expected=expected, fix=fix)


def make_architecture(config: PublishedConfig) -> Any:
    """Return the configuration object of the package transformers for a published network.

    Raises ConfigError if the installed version of transformers does not contain the architecture.
    """
    transformers = import_transformers()
    values = _without_downloads(config.architecture)
    kind = values.pop("model_type")
    try:
        return transformers.AutoConfig.for_model(kind, **values)
    except Exception as error:
        found = f"'{kind}', which transformers {transformers.__version__} refuses ({summarize_exception(error)})"
        fix = "pip install -U transformers, or use the config.json of the published network"
        raise ConfigError("model_type", found=found, expected="an architecture that it has", fix=fix) from error


def _without_downloads(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {
        key: False if key == "use_pretrained_backbone" else _without_downloads(value) for key, value in values.items()
    }


def load_published(config: PublishedConfig) -> Any:
    """Build a published network and load the weights of its source, a folder or a repository of the hub.

    Raises CheckpointError for damaged files, and for weights that are missing, superfluous, not finite, or of a shape
    that differs from the network's.
    """
    transformers = import_transformers()
    files = find_published_files(config.source)
    count = count_numbers(files)
    architecture = make_architecture(config)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with limit_parameters(files.folder, count):
            network, report = transformers.AutoModelForDepthEstimation.from_pretrained(
                str(files.folder),
                config=architecture,
                revision=files.revision or "main",
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except CheckpointError:
        raise
    except Exception as error:
        found = f"weights that cannot be loaded ({summarize_exception(error)})"
        fix = "download the folder again"
        raise CheckpointError(files.folder, found=found, expected="undamaged safetensors", fix=fix) from error
    _refuse_partial(files, network, report)
    return network.float().eval()


def count_numbers(files: PublishedFiles) -> int:
    """Return how many numbers the weight files contain in total, according to their headers.

    Raises CheckpointError for a damaged file.
    """
    import safetensors

    total = 0
    for path in files.list_weight_files():
        try:
            with safetensors.safe_open(path, framework="np") as file:
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            found = f"a damaged file ({summarize_exception(error)})"
            raise CheckpointError(
                path, found=found, expected="safetensors", fix="delete the file and download the network again"
            ) from error
    return total


def find_unused_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that have no effect on the output."""
    unneeded = find_unneeded([name for name, _ in network.named_parameters()])
    return [parameter for name, parameter in network.named_parameters() if name in unneeded]


def _refuse_partial(files: PublishedFiles, network: nn.Module, report: Any) -> None:
    missing, mismatched = report.get("missing_keys", ()), report.get("mismatched_keys", ())
    kinds = {
        "missing": set(missing) - find_unneeded(missing),
        "left over": report.get("unexpected_keys", ()),
        "of another shape": [entry if isinstance(entry, str) else entry[0] for entry in mismatched],
        "not finite": [name for name, tensor in network.state_dict().items() if not tensor.float().isfinite().all()],
    }
    refuse_differences(files.folder, kinds, "use config.json and weights of one network")


class MogeNetwork(nn.Module):
    """MoGe (arXiv 2410.19115), whose depth is up to scale, or MoGe-2 (arXiv 2507.02546), whose depth is in metres.

    folder: folder with model.pt.
    name: name of the network; names that start with "moge-2" mean MoGe-2.
    """

    files = ("model.pt",)

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        module = import_module("moge.model.v2" if name.startswith("moge-2") else "moge.model.v1")
        self.network: Any = module.MoGeModel.from_pretrained(str(folder / "model.pt"))

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict depth (B, H, W), infinite in the sky, and focal length over image width, fx / width (B,).

        image: (B, 3, H, W) RGB in [0, 1].
        """
        found = self.network.infer(image, apply_mask=True, use_fp16=False)
        return found["depth"].clone(), found["intrinsics"][:, 0, 0].clone()  # infer has no gradients, but clones may


class DepthAnything3Network(nn.Module):
    """Depth Anything 3 (arXiv 2511.10647), applied to single images.

    folder: folder with config.json and model.safetensors.
    name: not used.
    """

    files = ("config.json", "model.safetensors")

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        self.network: Any = import_module("depth_anything_3.api").DepthAnything3.from_pretrained(str(folder))

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Predict depth (B, H, W) and focal length over image width, fx / width (B,), or None without a focal length.

        image: (B, 3, H, W) RGB in [0, 1].
        """
        maps, focals = [], []
        for pixels in (image.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
            found = self.network.inference([pixels], process_res=max(pixels.shape[:2]))
            depth = torch.as_tensor(found.depth[0], dtype=torch.float32, device=image.device)
            maps.append(functional.interpolate(depth[None, None], image.shape[-2:], mode="bilinear")[0, 0])
            intrinsics = getattr(found, "intrinsics", None)
            if intrinsics is not None:
                focals.append(float(intrinsics[0][0, 0]) / depth.shape[-1])
        return torch.stack(maps), torch.tensor(focals, device=image.device) if len(focals) == len(maps) else None


NETWORKS: Mapping[str, type[MogeNetwork] | type[DepthAnything3Network]] = {
    "moge": MogeNetwork,
    "depth_anything_3": DepthAnything3Network,
}
"""Class that runs a network by its authors' Python package, by the name of this package (a key of PACKAGES)."""


def load_package_network(name: str) -> MogeNetwork | DepthAnything3Network:
    """Load a published network that its authors' Python package runs, with its published weights.

    name: a name of PUBLISHED_NETWORKS that has a package.

    Raises ConfigError if the package is missing, and CheckpointError if it cannot load the weights.
    """
    package, repository = PUBLISHED_NETWORKS[name].package, PUBLISHED_NETWORKS[name].repository
    try:
        import_module(package)
    except ImportError as error:
        found = "no such package" if error.name == package else f"one without {error.name}"
        expected = f"the package that runs {name}"
        raise ConfigError(package, found=found, expected=expected, fix=PACKAGES[package]) from error
    network_class = NETWORKS[package]
    folder = download_repository(name, repository, patterns=network_class.files)
    try:
        return network_class(folder, name).eval()
    except Exception as error:  # another program's
        found, fix = f"weights that {package} cannot load ({summarize_exception(error)})", "update the package"
        raise CheckpointError(name, found=found, expected="published weights", fix=fix) from error
