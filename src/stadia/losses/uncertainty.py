"""Heteroscedastic uncertainty of the photometric residual (D3VO)."""

from __future__ import annotations

from torch import Tensor

from stadia.core.errors import GeometryError


def weight_by_uncertainty(residual: Tensor, log_uncertainty: Tensor) -> Tensor:
    """Compute r / Sigma + log Sigma at each pixel (D3VO, arXiv 2003.01060, eq. 7; Kendall and Gal, arXiv 1703.04977).

    For a fixed residual the minimum is at Sigma = r, where it is 1 + log r: *below 0 for r < 1 / e*, which is correct.
    The slope in the residual is 1 / Sigma, so well explained pixels count more. Sigma belongs to the target pixel: it
    weights the minimum over the sources, not its candidates.

    Args:
        residual: (B, 1, H, W).
        log_uncertainty: (B, 1, H, W) log Sigma, which needs no floor and has bounded slopes.

    Returns: (B, 1, H, W). Raises GeometryError if the shapes differ, since (B, H, W) would broadcast over sample pairs.

    Examples:
        >>> r = torch.full((1, 1, 1, 1), 0.5)
        >>> round(weight_by_uncertainty(r, r.log()).item(), 4)  # 1 + ln r, the minimum for this residual
        0.3069
    """
    if residual.shape != log_uncertainty.shape:
        found, expected = f"shape {tuple(log_uncertainty.shape)}", f"{tuple(residual.shape)}, the residual's"
        fix = "pass one map of one channel for each sample"
        raise GeometryError("log uncertainty", found=found, expected=expected, fix=fix)
    return residual * (-log_uncertainty).exp() + log_uncertainty
