"""The same seed again: the same bits on one machine with as many threads, the same answers with others."""

import json

import pytest
from chains import carry_out_whole
from sameness import list_differences, list_files


def read_answers(run):
    """Every answer in a run, by file: whose it is, its text, and whether it came to its end."""
    keys = ("task", "split", "identifier", "sample", "completion", "finished")
    return {
        path: [
            tuple(json.loads(line)[key] for key in keys)
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        for path, file in list_files(run).items()
        if path.endswith("predictions.jsonl")
    }


@pytest.mark.parametrize("size", ["small", pytest.param("whole", marks=pytest.mark.slow)])
def test_another_process_comes_to_the_same_bits(other_nursery, place, request, size):
    one = request.getfixturevalue(size)
    again = carry_out_whole(other_nursery, one.tree, place)
    assert list_differences(one.path, again.path) == []


@pytest.mark.parametrize("size", ["small", pytest.param("whole", marks=pytest.mark.slow)])
def test_another_number_of_threads_gives_the_same_answers(nursery, place, request, size):
    one = request.getfixturevalue(size)
    two = carry_out_whole(nursery, {**one.tree, "device": {"name": "cpu", "threads": 2}}, place)
    assert json.loads((two.path / "environment.json").read_text(encoding="utf-8"))["threads"] == 2
    assert read_answers(one.path) == read_answers(two.path)
    names = [path for path in list_files(one.path) if path.endswith(".safetensors")]
    same = [name for name in names if (one.path / name).read_bytes() == (two.path / name).read_bytes()]
    print(f"with 2 threads {len(same)} of {len(names)} files of tensors are the same to the last bit")
    assert names
