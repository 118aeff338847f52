"""Data sets of objects in known poses: TableWorld, BOP, NOCS, KITTI, and their batches."""
