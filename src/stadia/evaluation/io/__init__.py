"""Read and write the files of predictions and scores."""
