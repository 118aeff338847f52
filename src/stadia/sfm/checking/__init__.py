"""Check results of any program: the conventions of poses and cameras, and whether matches of the images agree."""
