"""Judge geometry that any program computed: findings, verdicts, and what is measured for each question."""
