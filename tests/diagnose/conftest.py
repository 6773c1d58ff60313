from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def glmdiag(monkeypatch, capsys):
    """Runs the command as a person would: exit status, standard output, standard error."""
    from glmdiag.cli import main

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["glmdiag", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return call
