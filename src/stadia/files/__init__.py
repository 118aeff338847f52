"""Read and write files safely: completely, with limited sizes, and only inside their folder."""
