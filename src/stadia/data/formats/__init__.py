"""One reader for each layout of a public data set, and for stadia's own folder layout."""
