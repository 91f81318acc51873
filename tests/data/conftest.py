"""Records for the tests of data: synthetic ones in both field schemas, and the real ones where they lie."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real records beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real records are not here: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes rows (objects, or text as it is) to a JSONL file and returns its path."""

    def write(name: str, *rows: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write
