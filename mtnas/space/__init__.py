"""What may vary: choices, archs, spaces. Knows no torch."""
