"""Compares, only reported. Imports core and geometry."""
