"""Depth networks: the interface, and one file for each network of the table `stadia.models.DEPTH_NETWORKS`."""
