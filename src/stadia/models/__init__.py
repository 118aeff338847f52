"""Owns weights. Imports core and geometry."""
