"""A run tried before its first step: number formats, invariances, features, memory."""
