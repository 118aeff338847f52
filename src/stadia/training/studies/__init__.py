"""Several trainings for one question: `stadia ablate` and `stadia sweep`."""
