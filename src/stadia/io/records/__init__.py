"""Read and write cameras, poses and trajectories of other programs."""
