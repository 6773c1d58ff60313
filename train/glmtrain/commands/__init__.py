"""The commands of `glmtrain`, one a module."""
