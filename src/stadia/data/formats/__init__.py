"""One reader for each layout of a public dataset, and for stadia's own folder layout."""
