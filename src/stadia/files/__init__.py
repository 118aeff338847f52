"""Read and write files safely: whole or not at all, of a bounded size, and never outside their folder."""
