"""Compares, differentiably, per pixel; reduction is one named step at the end. Imports core and geometry."""
