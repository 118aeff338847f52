"""Monitors of a training: each reads logged values and returns a finding."""
