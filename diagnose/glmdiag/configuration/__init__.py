"""What is wrong with a configuration, what it comes to, and how it is mended."""
