"""The exported file against the trained network: shapes, numbers and metrics, head by head."""
