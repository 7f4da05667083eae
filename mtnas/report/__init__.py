"""The report of a run: one HTML file made from result files alone. Knows no torch."""
