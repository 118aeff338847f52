"""Many trainings that answer one question: changes against a base over seeds (`stadia ablate`), and a search (`stadia
sweep`).
"""
