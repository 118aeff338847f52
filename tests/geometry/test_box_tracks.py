"""Boxes of one object have one number, over gaps, and two objects never share one in a frame."""

from __future__ import annotations

import torch

from stadia.geometry.ground.drive_heights import track_boxes


def test_objects_keep_their_numbers_over_a_gap_and_new_ones_get_new_ones():
    frame = torch.tensor([0, 0, 1, 3, 3, 9])
    box = torch.tensor(
        [[0, 0, 10, 10], [50, 0, 60, 10], [51, 0, 61, 10], [1, 0, 11, 10], [52, 0, 62, 10], [1, 0, 11, 10]]
    )
    assert track_boxes(frame, box).tolist() == [0, 1, 1, 0, 1, 2]


def test_two_boxes_of_a_frame_are_two_objects():
    frame = torch.tensor([0, 1, 1])
    box = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    assert track_boxes(frame, box).tolist() == [0, 1, 0]
