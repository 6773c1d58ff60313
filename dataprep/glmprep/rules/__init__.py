"""Rules on chat data. Each takes a table and returns the expression that is true where it fires."""
