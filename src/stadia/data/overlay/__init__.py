"""Composed images: something cut out pasted onto a background, with the depth and the mask that follow."""
