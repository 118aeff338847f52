"""The ground: horizon, road plane, and the heights of camera and objects above it."""
