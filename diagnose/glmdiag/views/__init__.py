"""What the commands show: a page for `--report`, a few lines for the terminal."""
