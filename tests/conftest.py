"""How property tests choose their examples."""

from hypothesis import settings

# The same examples each time, here and in CI: a change is told from bad luck. `make fuzz` looks
# for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile("fixed")
