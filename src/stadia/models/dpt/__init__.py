"""Dense prediction transformers (DPT, arXiv 2103.13413; Depth Anything, arXiv 2406.09414). Imports no torch."""
