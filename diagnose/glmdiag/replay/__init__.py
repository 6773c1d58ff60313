"""A step of a run again, and a fix tried on some steps."""
