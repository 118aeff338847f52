"""Read and write files safely: complete, of limited size, and only inside their folder."""
