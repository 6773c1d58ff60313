"""One pass over the rows of a source: read, parsed, mended where asked for, and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from glmprep import policy
from glmprep.mending import Mending
from glmprep.parse import Mend, parse
from glmprep.read import find, read
from glmprep.records import Conversation, RawRow, Rejection
from glmprep.seen import Seen
from glmprep.source import Source


class Stream(Seen):
    """Makes conversations of rows and sees what happens to them (see `seen.Seen`).

    It reads all rows of the source, or those that are `given`. `files` are what the paths of the
    source name; InputError is raised at once where one of them names nothing. `mending` keeps
    repairs; another `mend` takes its place.
    """

    def __init__(
        self,
        source: Source,
        *,
        given: Iterable[RawRow | Rejection] | None = None,
        mend: Mend | None = None,
    ) -> None:
        super().__init__(source.paths)
        self.files = find(source.paths) if given is None else []
        self.mending = Mending()
        self._raw = read(source.paths) if given is None else given
        self._source = source
        self._mend = self.mending if source.repair else mend

    def items(self) -> Iterator[Conversation | Rejection]:
        """All rows in the order in which they are read; those that are rejected are noted."""
        source = self._source
        for item in parse(
            self._raw, source.roles, take=source.take, mend=self._mend, tally=self.tally
        ):
            self.rows += 1
            if isinstance(item, Rejection):
                self.reject(item)
                yield item
            else:
                yield policy.apply(item, source.train_on)
        self.repaired.update(self.mending.by_rule())
        for hit in self.mending.hits():
            self.hit(hit)


def rejects_path(output: Path) -> Path:
    """Where the rejected rows of an output file are listed."""
    return output.with_name(f"{output.name}.rejects.jsonl")
