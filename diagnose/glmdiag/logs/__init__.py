"""Training logs of all trainers, read as they are found.

Cut off in the last line, with bare NaN and Infinity (which JSON does not have, but Python writes),
without this or that field, with steps that go back after a resume: what is there is read, and what
could not be seen is said in `Log.notes`.

    entries     what trainers call the fields, and how they write numbers
    lines       text lines of a file, whatever is wrong with it
    jsonlines, state, console, tensorboard
                one module a format
    folder      which log to read in a run's folder
    record      the steps in columns, and the notes
    reading     which format a file has; several files become one run
    following   a file that is still being written
"""

from glmdiag.logs.reading import read
from glmdiag.logs.record import Kind, Log, Steps

__all__ = ["Kind", "Log", "Steps", "read"]
