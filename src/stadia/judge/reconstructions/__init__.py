"""Judge results of any program: conventions of poses and cameras, and whether matches of the images agree."""
