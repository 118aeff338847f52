"""Connected components: a map of classes to a map of instances."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def connected_components(class_map: Tensor, *, fewest_px: int = 1) -> Tensor:
    """Label pixels of one class that touch along a side as one instance: (B, H, W) to (B, H, W) int64, 0 = none.

    Instances are numbered from 1 in each image, class by class. Components of fewer than `fewest_px` pixels are
    dropped. Two touching objects of one class are one component, and an object that is cut in two is two. Classes are
    below 256.
    """
    classes = class_map.detach().to(torch.uint8).cpu().numpy()
    found = np.zeros(classes.shape, np.int32)
    highest = int(classes.max(initial=0))
    for image, out in zip(classes, found, strict=True):
        count = 0
        for kind in range(1, highest + 1):
            mask = cv2.compare(image, kind, cv2.CMP_EQ)
            left, top, width, height = cv2.boundingRect(mask)
            if not width:
                continue
            box = slice(top, top + height), slice(left, left + width)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=4, ltype=cv2.CV_32S)
            kept = stats[:, cv2.CC_STAT_AREA] >= fewest_px
            kept[0] = False
            numbers = np.where(kept, count + np.cumsum(kept), 0).astype(np.int32)
            out[box] += numbers[labels]
            count += int(kept.sum())
    return torch.from_numpy(found).to(class_map.device).long()
