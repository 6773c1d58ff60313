"""The causes by what they concern; each is a docstring and the findings that it is known by."""
