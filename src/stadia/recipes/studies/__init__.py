"""Several trainings for one question: ablations over seeds (`stadia ablate`) and searches (`stadia sweep`)."""
