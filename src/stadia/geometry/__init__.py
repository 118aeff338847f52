"""Camera, motions, warping, depth maps, alignment, ground, bundle adjustment, objects. Imports core."""
