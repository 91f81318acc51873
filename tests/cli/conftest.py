"""Calling the command line in this process, and experiment files to call it with."""

import pytest
import tomli_w

from codestrata.cli.main import main
from codestrata.store import replace_off


@pytest.fixture
def call(capsys, monkeypatch):
    """A function that calls ``codestrata ARGUMENTS`` and gives exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def quick_file(quick_tree, tmp_path):
    """An experiment file of a run in half a second, over one's own examples."""
    path = tmp_path / "quick.toml"
    path.write_text(tomli_w.dumps(replace_off(quick_tree())), encoding="utf-8")
    return path
