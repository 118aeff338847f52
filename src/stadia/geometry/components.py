"""Connected components: a map of classes to a map of instances."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def connected_components(class_map: Tensor, *, fewest_px: int = 1) -> Tensor:
    """Pixels of one class that touch each other along a side, as one instance: (B, H, W) to (B, H, W) int64, 0 = none.

    In each picture they are numbered from 1, class after class. Components of fewer than `fewest_px` pixels are none.
    Two objects of one class that touch are one component, and one that something else cuts in two is two.
    """
    classes = class_map.detach().cpu().numpy()
    found = np.zeros(classes.shape, np.int64)
    for picture, out in zip(classes, found, strict=True):
        count = 0
        for kind in np.flatnonzero(np.bincount(picture.ravel())[1:]) + 1:
            number, labels = cv2.connectedComponents((picture == kind).astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
            kept = np.bincount(labels.ravel(), minlength=number) >= fewest_px
            kept[0] = False
            out += np.where(kept, count + np.cumsum(kept), 0)[labels]
            count += int(kept.sum())
    return torch.from_numpy(found).to(class_map.device)
