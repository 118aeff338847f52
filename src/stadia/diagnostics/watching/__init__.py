"""Instruments of the watch: each reads numbers that a training has anyway, and says when they are not those of one that
learns.
"""
