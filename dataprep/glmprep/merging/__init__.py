"""What of a conversation, or of a set of them, says nothing new."""
