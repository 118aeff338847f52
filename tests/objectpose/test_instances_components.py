"""Connected components of class maps."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from stadia.geometry.segments import segments_from_instances, subsample_segments
from stadia.objectpose.instances import label_components


def test_pixels_of_one_class_that_share_a_side_are_one_instance() -> None:
    classes = torch.tensor([[[1, 1, 0, 2], [0, 1, 2, 2], [1, 0, 2, 0], [1, 0, 0, 1]]])
    expected = torch.tensor([[[1, 1, 0, 4], [0, 1, 4, 4], [2, 0, 4, 0], [2, 0, 0, 3]]])
    assert torch.equal(label_components(classes), expected)


def test_each_image_counts_from_one_and_small_ones_are_none() -> None:
    classes = torch.zeros(2, 5, 6, dtype=torch.long)
    classes[0, 1:3, 1:3], classes[1, 0, 0], classes[1, 2:5, 2:6] = 3, 1, 3
    found = label_components(classes, min_px=2)
    assert found.dtype == torch.int64
    assert [image.unique().tolist() for image in found] == [[0, 1], [0, 1]]
    assert found[1, 0, 0] == 0


def test_as_scipy_labels_each_class_of_each_image() -> None:
    classes = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 20, 30)))
    for image, found in zip(classes.numpy(), label_components(classes).numpy(), strict=True):
        count = 0
        for kind in (1, 2, 3):
            labels, number = ndimage.label(image == kind)
            assert len(np.unique(np.stack((labels, found))[:, image == kind], axis=1).T) == number, "one to one"
            count += number
        assert found.max() == count
        assert (found[image == 0] == 0).all()


def test_an_image_of_nothing_has_none() -> None:
    assert not label_components(torch.zeros(1, 4, 4, dtype=torch.long)).any()


def test_thinned_objects_keep_their_rows_and_are_still_visible_all_over() -> None:
    instances = torch.zeros(2, 40, 50, dtype=torch.long)
    instances[0, 2:38, 3:45], instances[1, 5:9, 6:9] = 4, 2
    whole = segments_from_instances(instances)
    few = subsample_segments(whole, 100)
    assert torch.equal(few.image, whole.image)
    assert torch.equal(few.instance, whole.instance)
    assert few.segment.bincount().tolist() == [95, 12]
    large = few.pixel[few.segment == 0]
    assert large.min() == 2 * 50 + 3
    assert large.max() > 36 * 50, "down to the last rows"
    assert all(instances.flatten()[few.pixel] == few.instance[few.segment])
