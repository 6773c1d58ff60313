"""Examine hardware, labels and logs of a fine-tuning run, and name causes with evidence."""

__version__ = "0.1.0"
