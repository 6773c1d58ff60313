"""What a segment is told of what came before it."""
