"""What each command says of its result: a short summary for the terminal, and an HTML page."""
