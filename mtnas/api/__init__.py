"""The public functions in Python: the same stages as a run's, with the parts given by the caller, in any order."""
