"""Types, errors, configuration and tables of parts: imported by all other packages, imports none of them."""
