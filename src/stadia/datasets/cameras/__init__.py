"""Calibration files, lens models and rectification."""
