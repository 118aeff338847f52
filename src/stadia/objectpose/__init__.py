"""Class, mask, rotation, translation and size of objects."""
