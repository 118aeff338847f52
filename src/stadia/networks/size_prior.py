"""A learned size prior: an object's height in metres by its appearance instead of its class.

Source: FUMET, arXiv 2312.04530.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import timm

from stadia.core.errors import CheckpointError, DataError, summarize_exception
from stadia.io.atomic_files import open_atomic
from stadia.io.input_files import check_input_file, expand_home, parse_json

ImageArray = NDArray[np.uint8]
_MEAN = (0.485, 0.456, 0.406)  # of RGB in ImageNet, which the encoder expects
_STD = (0.229, 0.224, 0.225)  # its standard deviation
_MIN_DEVIATION = 0.02  # smallest deviation of the logarithm: a label's accuracy
_MAX_FACTOR = 1.7  # largest factor from the training mean, up or down
_CHUNK = 64  # cropped objects of a forward
_MAX_BYTES = 1 << 30  # largest weight file that is read


class SizePrior(nn.Module):
    """A network that predicts an object's height in metres from its image crop, with an uncertainty.

    It is a ConvNeXt V2 (Woo et al., CVPR 2023) and two layers.

    mean_m: mean height of the training objects in metres. Predictions stay within a factor of 1.7 of it.
    side: side of a crop, pixels.
    encoder: name of the timm model.
    """

    def __init__(self, mean_m: float, *, side: int = 64, encoder: str = "convnextv2_atto") -> None:
        super().__init__()
        self.about = {"mean_m": mean_m, "side": side, "encoder": encoder}
        self.mean_m, self.side = mean_m, side
        self.encoder = timm.create_model(encoder, num_classes=0)
        width = self.encoder.num_features
        last = nn.Linear(128, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(width, 128), nn.GELU(), last)
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Map crops of objects to the logarithm of the height in metres and its standard deviation, (B,) each.

        crops: (B, 3, side, side) RGB in [0, 1].
        """
        output = self.head(self.encoder((crops - self._mean) / self._std))
        reach = float(np.log(_MAX_FACTOR))
        deviation = _MIN_DEVIATION + 0.1 * nn.functional.softplus(output[:, 1])
        return float(np.log(self.mean_m)) + reach * torch.tanh(output[:, 0]), deviation

    @torch.no_grad()
    def predict_heights(self, crops: Sequence[ImageArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict the heights of objects and their standard deviations in metres, (N,) each.

        crops: N images (side, side, 3) RGB of masked objects.
        """
        was_training = self.training
        self.eval()
        means, spreads = [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(crops), _CHUNK):
            given = torch.from_numpy(np.stack(crops[start : start + _CHUNK])).movedim(-1, 1).float() / 255
            log_m, deviation = (x.cpu().double().numpy() for x in self(given.to(self._mean.device)))
            means.append(np.exp(log_m))
            spreads.append(np.exp(log_m) * deviation)
        self.train(was_training)
        return np.concatenate(means), np.concatenate(spreads)


def log_height_loss(log_m: Tensor, deviation: Tensor, height_m: Tensor) -> Tensor:
    """Return the training loss, a scalar: mean absolute error of ln height plus a Laplace likelihood for its deviation.

    In the likelihood the error is detached, so that it trains only the predicted deviation.

    log_m: (B,) predicted ln of the height in metres.
    deviation: (B,) predicted standard deviation of this logarithm.
    height_m: (B,) true heights in metres.
    """
    error = (log_m - height_m.log()).abs()
    scale = deviation / 2**0.5
    return error.mean() + 0.1 * (error.detach() / scale + scale.log()).mean()


def save_size_prior(prior: SizePrior, path: Path) -> None:
    """Save a size prior to a safetensors file, atomically, with the arguments that rebuild the network."""
    with open_atomic(path) as stream:
        stream.write(safetensors.torch.save(prior.state_dict(), {"size_prior": json.dumps(prior.about)}))


def load_size_prior(path: Path) -> SizePrior:
    """Load a network that `save_size_prior` saved, in evaluation mode.

    Raises CheckpointError for a damaged file, or if the file is not a size prior.
    """
    path, expected, fix = expand_home(path), "a learnt size prior", "train one: stadia prior train DATA"
    check_input_file(path, expected=expected, max_bytes=_MAX_BYTES, fix=fix)
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = parse_json(path, file.metadata()["size_prior"], expected)
        if not timm.is_model(about["encoder"]):  # "hf-hub:NAME" and "local-dir:NAME" would read another architecture
            raise LookupError(f"the encoder {about['encoder']!r}, which timm lacks")
        prior = SizePrior(about["mean_m"], side=about["side"], encoder=about["encoder"])
        prior.load_state_dict(safetensors.torch.load_file(path))
    except (DataError, OSError, LookupError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        found = summarize_exception(error)
        raise CheckpointError(path, found=found, expected=expected, fix=fix) from error
    return prior.eval()
