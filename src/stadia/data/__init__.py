"""Opens dataset files and makes samples of them. Imports core and geometry."""
