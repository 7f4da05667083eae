"""Multi-objective search under hard limits: strategies, the durable loop, the front. Knows no torch and no data."""
