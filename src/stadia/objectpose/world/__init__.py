"""TableWorld: rendered objects on random tables with their poses."""
