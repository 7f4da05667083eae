"""Words and small tools every room speaks: standard library and numpy only."""
