"""Fine-tune GLM chat models on shards that account for every token."""

__version__ = "0.1.0"
