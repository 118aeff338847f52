"""Let the modules of this folder import each other, as the importlib mode of pytest does not."""
