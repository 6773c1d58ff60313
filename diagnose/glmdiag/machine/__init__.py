"""The hardware: what it has, what it can compute, and the rules on it."""
