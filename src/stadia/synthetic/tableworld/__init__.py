"""TableWorld: rendered objects on random tables with their poses, and cut-outs of them."""
