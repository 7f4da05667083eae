"""The job: one strict YAML file that says everything about a run. Knows no torch."""
