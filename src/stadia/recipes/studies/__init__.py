"""Several trainings that answer one question: ablations over seeds (`stadia ablate`) and searches (`stadia sweep`)."""
