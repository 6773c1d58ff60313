"""The commands of `glmprep`, one a module: options, the call, and what is printed of it."""
