"""Depth networks: their common interface, and one file for each network of the table DEPTH_NETWORKS."""
