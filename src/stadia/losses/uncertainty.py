"""How far a pixel's residual can be trusted, said by the network itself."""

from __future__ import annotations

from torch import Tensor

from stadia.core.errors import GeometryError


def weighed_by_uncertainty(residual: Tensor, log_uncertainty: Tensor) -> Tensor:
    """Each pixel's r / Sigma + log Sigma (D3VO, arXiv 2003.01060, eq. 7; Kendall and Gal, arXiv 1703.04977).

    For a fixed residual the least is at Sigma = r, and is 1 + log r: *below 0 where r < 1 / e*, which is no error. The
    slope towards the residual is 1 / Sigma, so that well explained pixels count more. There is one Sigma for a target
    pixel, not one a source: it weighs the minimum over the candidates, never what enters it.

    Args:
        residual: (B, 1, H, W).
        log_uncertainty: (B, 1, H, W) log Sigma: as a logarithm it needs no floor, and its slope does not explode.

    Returns: (B, 1, H, W). Raises GeometryError where the shapes differ: (B, H, W) would be broadcast to every pair of
        samples.
    """
    if residual.shape != log_uncertainty.shape:
        raise GeometryError(
            "log uncertainty",
            found=f"shape {tuple(log_uncertainty.shape)}",
            expected=f"{tuple(residual.shape)}, the residual's",
            fix="pass one map of one channel for each sample",
        )
    return residual * (-log_uncertainty).exp() + log_uncertainty
