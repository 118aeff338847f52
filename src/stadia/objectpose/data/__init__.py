"""Datasets of objects with known poses: TableWorld, BOP, NOCS, KITTI, and their batches."""
