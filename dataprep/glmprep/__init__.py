"""Prepare chat data for fine-tuning GLM models, with every token accounted for."""

__version__ = "0.1.0"
