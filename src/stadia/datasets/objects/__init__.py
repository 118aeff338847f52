"""Read images of single objects with poses: stadia's own layout, BOP, NOCS, KITTI."""
