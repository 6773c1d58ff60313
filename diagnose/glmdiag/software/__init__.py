"""Versions against each other, and a model's own code against the installed transformers."""
