"""Monitors of a training: each reads logged values and returns a finding when they are not those of a training that
learns.
"""
