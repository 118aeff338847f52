"""Networks that predict through their authors' package, without gradients: MoGe and Depth Anything 3."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stadia.core.errors import CheckpointError, ConfigError, summarize_exception
from stadia.models.published_networks import PACKAGES, PUBLISHED_NETWORKS, download_repository


class MogeNetwork(nn.Module):
    """MoGe (arXiv 2410.19115), up to scale, and MoGe-2 (arXiv 2507.02546), in metres; `name` has the version."""

    files = ("model.pt",)

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        module = import_module("moge.model.v2" if name.startswith("moge-2") else "moge.model.v1")
        self.network: Any = module.MoGeModel.from_pretrained(str(folder / "model.pt"))

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return depth (B, H, W), infinite in the sky, and fx / width (B,), of images (B, 3, H, W) in [0, 1]."""
        found = self.network.infer(image, apply_mask=True, use_fp16=False)
        return found["depth"].clone(), found["intrinsics"][:, 0, 0].clone()  # infer has no gradients, but clones may


class DepthAnything3Network(nn.Module):
    """Depth Anything 3 (arXiv 2511.10647), of single images."""

    files = ("config.json", "model.safetensors")

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__()
        self.network: Any = import_module("depth_anything_3.api").DepthAnything3.from_pretrained(str(folder))

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return depth (B, H, W) and fx / width (B,) or None of images as in `MogeNetwork`."""
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
"""Networks by their package, a key of PACKAGES."""


def load_package_network(name: str) -> MogeNetwork | DepthAnything3Network:
    """Return a network of PUBLISHED_NETWORKS that a package runs, with its published weights.

    Raises ConfigError if the package is missing, CheckpointError if it cannot load the weights.
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
