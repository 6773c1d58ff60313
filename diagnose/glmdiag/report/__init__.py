"""All examinations of a run joined into ranked causes."""
