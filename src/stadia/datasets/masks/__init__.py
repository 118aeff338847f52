"""Read masks of road and objects, split and clean them, and give the heights of objects."""
