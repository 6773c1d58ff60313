"""Make the files of the embedded tokenizer from GLM-4's published tokenizer.json.

    python bench/embed.py TOKENIZER.json[.gz]

A test compares them with what this makes of the published file in the folder of real data.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from glmprep.encoders import embedded

ASSETS = Path(__file__).resolve().parents[1] / "dataprep/glmprep/assets"


def main() -> None:
    """Write the files."""
    (source,) = map(Path, sys.argv[1:])
    data = source.read_bytes()
    published = gzip.decompress(data) if source.suffix == ".gz" else data
    for name, made in embedded.make(published).items():
        packed = gzip.compress(made, 9, mtime=0)
        (ASSETS / f"{name}.gz").write_bytes(packed)
        print(f"{name}.gz: {len(packed):,} bytes")


if __name__ == "__main__":
    main()
