"""`python -m glmtrain`, as torchrun starts it: torchrun -m glmtrain run …"""

from glmtrain.cli import main

main()
