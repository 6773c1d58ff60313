"""Data with less in it that says nothing new, and a map that gives back every byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from glmprep import read
from glmprep.blocks import blocks
from glmprep.engines import Engine
from glmprep.engines.local import Serial
from glmprep.files import require_other
from glmprep.merging.collecting import Collector, Result
from glmprep.merging.settings import Merging
from glmprep.merging.stage import MergeBlocks, stamp
from glmprep.source import Source
from glmprep.store import Folder, Store
from glmprep.tokenizing import Tokenizing

PASSING = "units.tmp"


def merge(
    source: Source,
    output: Path | None,
    *,
    merging: Merging,
    tokenizing: Tokenizing,
    engine: Engine | None = None,
    units: Store | None = None,
) -> Result:
    """Merge the conversations of `source`, and write what is left as canonical JSON Lines.

    Beside `output` stand the map (see `merging.restoring`) and the list of rows that are left out;
    for None nothing is written. `engine` runs the work, in this process for None. What is made of
    each block is kept in `units` and found there again; for None it is removed at the end. Raises
    UsageError for an output that is an input, InputError where no conversation is left.
    """
    files = read.files(source.paths)
    names = [file.path for file in files]
    if output is not None:
        require_other(output, names)
    with passing(output, units) as store:
        stage = MergeBlocks(
            source=source,
            tokenizing=tokenizing,
            merging=merging,
            store=store,
            stamp=stamp(source, tokenizing, merging),
            output=str(output or ""),
        )
        with Collector(source, output, files=names, store=store, alike=merging.groups) as collector:
            for text in (engine or Serial()).map(stage.text, blocks(files)):
                collector.add(text)
            return collector.finish()


@contextmanager
def passing(output: Path | None, units: Store | None) -> Iterator[Store]:
    """Where what is made of blocks is kept: in `units`, or for None as long as this lasts.

    That is beside `output`, so that there is room where the output has room, or where the system
    keeps temporary files.
    """
    if units is not None:
        yield units
    elif output is None:
        with TemporaryDirectory() as folder:
            yield Folder(Path(folder))
    else:
        beside, name = Folder(output.parent), f"{output.name}.{PASSING}"
        beside.delete(name)  # of a run that was killed
        try:
            yield beside.below(name)
        finally:
            beside.delete(name)
