"""What workers share with the server that forks them: imported by its name when that starts.

Loading the tokenizer takes longer and more memory than anything else that a worker needs; what is
loaded before the fork is there in all workers at once, and only once in memory.
"""

from __future__ import annotations

import gc
import json
import os
from contextlib import suppress
from threading import Thread

from glmprep.engines.local import WARM_VARIABLE


def load() -> None:
    """Load the tokenizer; where that fails, a worker meets the same error and can tell of it."""
    from glmprep.errors import SuiteError
    from glmprep.tokenizing import Named

    with suppress(SuiteError):
        Named.from_json(json.loads(os.environ[WARM_VARIABLE])).load()[0].get_ready()


loading = Thread(target=load) if WARM_VARIABLE in os.environ else None
if loading is not None:
    loading.start()

import pyarrow as pa  # noqa: E402

from glmprep import gather, segmenting  # noqa: E402, F401 - imported for workers, meanwhile
from glmprep.merging import stage  # noqa: E402, F401

pa.array([])  # at its first array pyarrow looks for pandas, which takes a while

if loading is not None:
    loading.join()  # no thread must be running when workers are forked
gc.collect()
gc.freeze()  # what is here stays, so that no worker looks through it and copies its pages
