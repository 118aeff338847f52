"""Closed-form truth about cameras, poses, depth and the ground. Imports core only."""
