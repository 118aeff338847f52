"""Types, errors, configuration, and registries of interchangeable components, which all other packages use."""
