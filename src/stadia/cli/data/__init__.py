"""Commands of `stadia data`: make, draw and examine data sets."""
