"""Convert raw outputs of networks to inverse depth, and find the bias with which training starts at a given depth."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stadia.core.errors import GeometryError


def _check_range(min_depth_m: float, max_depth_m: float) -> None:
    if not 0 < min_depth_m < max_depth_m:
        found, fix = f"{min_depth_m} to {max_depth_m} m", "pass metres, the nearer first"
        raise GeometryError("depth range", found=found, expected="0 < min < max", fix=fix)


def sigmoid_to_inverse_depth(logit: Tensor, min_depth_m: float, max_depth_m: float) -> Tensor:
    """Convert a network's raw output to inverse depth in 1/m: 1/max + (1/min - 1/max) * sigmoid(logit).

    Source: Monodepth2, arXiv 1806.01260, section 3.3.

    logit: raw outputs of any shape; the result has the same shape.
    min_depth_m, max_depth_m: smallest and largest possible depth in metres.

    Raises GeometryError unless 0 < min_depth_m < max_depth_m.

    Examples:
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(0.0), 0.1, 100).item(), 2)  # metres
        0.2
    """
    _check_range(min_depth_m, max_depth_m)
    return 1 / max_depth_m + (1 / min_depth_m - 1 / max_depth_m) * torch.sigmoid(logit)


def init_depth_bias(init_depth_m: float, min_depth_m: float, max_depth_m: float) -> float:
    """Return the logit that `sigmoid_to_inverse_depth` converts to depth init_depth_m.

    A depth head whose output layer has this bias predicts about init_depth_m everywhere before training.

    init_depth_m: depth in metres at the start of training.
    min_depth_m, max_depth_m: range of depth of the head, in metres.

    Raises GeometryError unless min_depth_m < init_depth_m < max_depth_m.

    Examples:
        >>> bias = init_depth_bias(20, 0.1, 100)
        >>> round(1 / sigmoid_to_inverse_depth(torch.tensor(bias), 0.1, 100).item(), 2)
        20.0
    """
    _check_range(min_depth_m, max_depth_m)
    if not min_depth_m < init_depth_m < max_depth_m:
        found, expected = f"{init_depth_m} m", f"between {min_depth_m} and {max_depth_m} m"
        raise GeometryError("start depth", found=found, expected=expected, fix="pass a depth inside the range")
    share = (1 / init_depth_m - 1 / max_depth_m) / (1 / min_depth_m - 1 / max_depth_m)
    return math.log(share / (1 - share))


def softplus_to_inverse_depth(logit: Tensor, min_depth_m: float) -> Tensor:
    """Convert a network's raw output to inverse depth in 1/m: 1 / (min_depth_m + softplus(logit)).

    This depth has no upper limit.

    logit: raw outputs of any shape; the result has the same shape.
    min_depth_m: smallest possible depth in metres.

    Examples:
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(1000.0), 0.5).item(), 1)
        1000.5
    """
    return 1 / (min_depth_m + F.softplus(logit))


def init_softplus_bias(init_depth_m: float, min_depth_m: float) -> float:
    """Return the logit that `softplus_to_inverse_depth` converts to depth init_depth_m.

    A depth head whose output layer has this bias predicts about init_depth_m everywhere before training.

    init_depth_m: depth in metres at the start of training, above min_depth_m.
    min_depth_m: smallest depth of the head, in metres.

    Raises GeometryError unless 0 < min_depth_m < init_depth_m.

    Examples:
        >>> bias = init_softplus_bias(20, 0.5)
        >>> round(1 / softplus_to_inverse_depth(torch.tensor(bias), 0.5).item(), 3)
        20.0
    """
    _check_range(min_depth_m, init_depth_m)
    beyond = init_depth_m - min_depth_m
    return beyond + math.log(-math.expm1(-beyond))
