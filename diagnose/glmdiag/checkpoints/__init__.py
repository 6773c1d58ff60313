"""What a run left, examined tensor by tensor: adapters, whole models, optimisers, checkpoints.

`reading.read` gives a `Checkpoint`, which `checkpoint_rules.judge` judges. No tensor file is loaded
whole, and nothing in a folder is ever executed. Rules are imported without torch, so nothing is
imported here.
"""
