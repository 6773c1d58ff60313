"""The commands of `glmdiag`, one a module: options, the call, and what is printed of it."""
