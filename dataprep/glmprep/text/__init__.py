"""What rules and checks need to know of a text. Modules here know nothing of conversations."""
