"""What can go wrong for a person who calls the suite.

SuiteError                exit 2
├── UsageError            the call contradicts itself or the files that it names
└── InputError            a file cannot be read as what it was given as
    └── IncompleteShards  a shard folder whose writing was not finished

A message is one line: where, what is wrong, what to do.
"""


class SuiteError(Exception):
    """The command cannot go on; its text is for the person who called it."""

    exit_status = 2


class UsageError(SuiteError):
    """Options contradict each other or the data."""


class InputError(SuiteError):
    """A file or folder is missing, unreadable or not of the kind expected."""


class IncompleteShards(InputError):
    """A shard folder without its manifest, which is written last."""


def first_line(error: BaseException) -> str:
    """What a library says is wrong, in its first line; the error's kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
