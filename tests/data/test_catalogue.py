"""The table of sources against the settings that name them, and against the files that are at hand."""

import hashlib
import re
from typing import get_args

import pytest

from codestrata.data.catalogue import CATALOGUE, TEST_ONLY, find_data_set, refuse_training, resolve_loader
from codestrata.errors import SettingsError
from codestrata.settings.tasks import OBJECTIVES, Source, TaskSettings

ROWS = pytest.mark.parametrize("row", CATALOGUE, ids=[row.name for row in CATALOGUE])


def test_every_source_of_the_settings_has_one_row():
    assert sorted(row.name for row in CATALOGUE) == sorted(get_args(Source))


@ROWS
def test_a_row_says_what_a_reader_needs(row):
    assert row.what
    assert row.license or row.license_note
    assert row.files or row.files_note, "a fingerprint that is not known has a reason"
    assert row.hub is not None or row.hub_note
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in row.files.values())
    assert row.objectives == OBJECTIVES.get(row.name, ("generate",))
    assert {size.language for size in row.sizes} <= set(row.languages)
    if row.url is not None:
        assert row.paper
        assert row.sizes
    if row.hub is not None:
        assert set(row.hub.configs) == set(row.languages)


@ROWS
def test_every_loader_is_there(row):
    assert callable(resolve_loader(row))


def test_sizes_add_up():
    assert find_data_set("mbxp").records == 974 + 966
    assert find_data_set("codesearchnet").records == 2_070_536
    assert find_data_set("file").records is None


def test_an_unknown_name_comes_with_the_nearest():
    with pytest.raises(SettingsError, match=r"Unknown data set 'humanevl'. Did you mean 'humaneval'\?"):
        find_data_set("humanevl")


@pytest.mark.parametrize("source", TEST_ONLY)
def test_sets_of_tests_are_not_trained_on(source):
    with pytest.raises(SettingsError, match=f'source = "mined", test_source = "{source}"'):
        refuse_training(TaskSettings(name="python", source=source))
    refuse_training(TaskSettings(name="python", source="mined", test_source=source))


@pytest.mark.parametrize("name", ["mbxp", "concode", "translate", "refine"])
def test_fingerprints_are_those_of_the_original_files(shared_data, name):
    row = find_data_set(name)
    for file, digest in row.files.items():
        (found,) = shared_data.rglob(file)
        assert hashlib.sha256(found.read_bytes()).hexdigest() == digest
