import re

import pytest

from codestrata.data.codesearchnet import Function
from codestrata.data.sourced import SourcedExample
from codestrata.data.splits import (
    hold_out,
    hold_out_newest,
    list_possible,
    split_records,
    split_training,
)
from codestrata.errors import DataError
from codestrata.records import Example
from codestrata.settings.tasks import TaskSettings


def make_function(number, **changes):
    plain = {
        "identifier": f"f{number}",
        "repository": None,
        "name": f"f{number}",
        "language": "python",
        "code": f"def f{number}(): pass",
        "docstring": "",
        "partition": None,
    }
    return Function(**(plain | changes))


def make_example(number, group=None, prompt=None, **changes):
    example = Example(identifier=f"e{number}", prompt=prompt or f"p{number}", target="t", group=group)
    return SourcedExample(example=example, **changes)


def make_settings(**changes):
    return TaskSettings(**({"name": "python", "source": "codesearchnet", "path": "data"} | changes))


def sizes(splits):
    return len(splits.train), len(splits.validation), len(splits.test)


def values(splits, read):
    return [{read(record) for record in part} for part in (splits.train, splits.validation, splits.test)]


def assert_apart(splits, read):
    train, validation, test = values(splits, read)
    assert train
    assert validation
    assert test
    assert not train & validation
    assert not (train | validation) & test


def test_null_takes_partitions_then_repositories_then_folders_then_records():
    partitions = [make_function(n, partition=("train", "test")[n % 2], repository=f"r{n}") for n in range(9)]
    assert split_records(partitions, make_settings()).by == "partition"
    repositories = [make_function(n, repository=f"r{n % 30}", path=f"a{n}/x.py") for n in range(90)]
    splits = split_records(repositories, make_settings())
    assert splits.by == "repository"
    assert_apart(splits, lambda record: record.repository)
    folders = [make_function(n, repository="one", path=f"src/a{n % 30}/x.py") for n in range(90)]
    splits = split_records(folders, make_settings())
    assert splits.by == "folder"
    assert_apart(splits, lambda record: record.path.split("/")[1])
    placeless = [make_function(n, repository="one") for n in range(9)]
    assert split_records(placeless, make_settings()).by == "record"
    assert split_records([make_function(n) for n in range(9)], make_settings()).by == "record"


def test_some_partitions_are_none():
    half = [make_function(n, partition="train" if n else None) for n in range(9)]
    assert split_records(half, make_settings()).by == "record"
    only = [make_function(n, partition="test") for n in range(9)]
    assert split_records(only, make_settings()).by == "record"


def test_the_note_says_by_what_and_the_shares():
    functions = [make_function(n, repository="one", path=f"src/a{n % 30}/x.py") for n in range(90)]
    (note,) = split_records(functions, make_settings()).notes
    assert re.fullmatch(
        r"split by folder: \d+ train \(7\d%\), \d+ validation \(\d%\), 18 test \(20%\), "
        r"of \d+, \d and 6 folders",
        note,
    )
    own = [make_function(n, partition=("train", "test")[n % 2]) for n in range(10)]
    (note,) = split_records(own, make_settings()).notes
    assert note == "split by the data's own partitions: 5 train (50%), 0 validation (0%), 5 test (50%)"
    examples = [make_example(n, f"g{n % 20}") for n in range(60)]
    assert "split by group: " in split_records(examples, make_settings(source="file")).notes[0]


def test_one_file_is_one_folder():
    functions = [make_function(n, path="a/b/x.py") for n in range(9)]
    assert "folder" not in list_possible(functions)
    assert split_records(functions, make_settings()).by == "record"


@pytest.mark.parametrize(
    ("split", "changes", "message"),
    [
        ("repository", {"repository": "one", "path": "{n}/x.py"}, "all 9 records are of one repository"),
        ("repository", {}, "9 of 9 records have no repository"),
        ("folder", {"path": "a/x.py"}, "all 9 records are of one folder"),
        ("folder", {}, "9 of 9 records have no path"),
        ("date", {}, "9 of 9 records have no date"),
        ("date", {"date": "2024-01-01"}, "all 9 records are of one day"),
        ("partition", {}, "every record must be of a partition, and both train and test occur; found: 9"),
        ("partition", {"partition": "train"}, "found: 9 of train"),
    ],
)
def test_what_is_impossible_is_refused_with_what_is_possible(split, changes, message):
    functions = [
        make_function(n, **{key: value.format(n=n) for key, value in changes.items()}) for n in range(9)
    ]
    with pytest.raises(DataError) as caught:
        split_records(functions, make_settings(split=split))
    said = str(caught.value)
    assert f"data: task 'python' cannot be split by {split}: " in said
    assert message in said
    assert "Possible values of tasks.split: " in said
    assert "record (9 records)" in said
    assert ("folder (9 folders)" in said) == ("{n}" in changes.get("path", ""))


def test_some_records_without_a_repository_or_a_date():
    functions = [make_function(n, repository=f"r{n}" if n else None, date="2024-01-01") for n in range(9)]
    with pytest.raises(DataError, match="1 of 9 records have no repository"):
        split_records(functions, make_settings(split="repository"))
    assert split_records(functions, make_settings()).by == "repository", "unasked, it stands for itself"
    functions[3] = make_function(3)
    with pytest.raises(DataError, match="1 of 9 records have no date"):
        split_records(functions, make_settings(split="date"))


def test_by_date_the_newest_are_tested_and_the_next_validate():
    functions = [make_function(n, date=f"20{n // 4:02}-05-31", partition="train") for n in range(200)]
    splits = split_records(functions, make_settings(split="date"))
    assert splits.by == "date"
    assert sizes(splits) == (144, 16, 40)
    train, validation, test = values(splits, lambda record: record.date)
    assert max(train) < min(validation)
    assert max(validation) < min(test)
    assert split_records(functions[::-1], make_settings(split="date", seed=3)).test == splits.test[::-1]


def test_records_of_a_day_stay_together():
    days = ["2020-01-01"] * 6 + ["2021-01-01"] * 3 + ["2022-01-01"]
    kept, held = hold_out_newest(days, lambda day: day, 0.3)
    assert (len(kept), held) == (9, ["2022-01-01"])
    kept, held = hold_out_newest(days, lambda day: day, 0.4)
    assert (len(kept), len(held)) == (6, 4)
    kept, held = hold_out_newest(["2020-01-01"] + ["2021-01-01"] * 9, lambda day: day, 0.2)
    assert (len(kept), len(held)) == (1, 9), "a day is never cut"
    assert hold_out_newest(["2020-01-01"] * 5, lambda day: day, 0.2)[1] == []


def test_validation_out_of_a_single_unit_is_by_record_and_said():
    functions = [make_function(n, repository=f"r{n % 2}") for n in range(40)]
    splits = split_records(functions, make_settings())
    assert sizes(splits) == (18, 2, 20)
    said = "all training records are of one repository: validation is held out of it by record"
    assert said in splits.notes
    assert sizes(split_records(functions, make_settings(validation_examples=0))) == (20, 0, 20)


def test_validation_never_takes_most_of_what_is_left_to_train_on():
    equal = [make_function(n, repository=f"r{n % 3}") for n in range(60)]
    splits = split_records(equal, make_settings())
    assert sizes(splits) == (36, 4, 20)
    said = "validation by whole repositories would take 20 of 40 training records: it is held out by record"
    assert said in splits.notes
    days = ["2020-01-01"] * 3 + ["2021-01-01"] * 48 + ["2022-01-01"] * 9
    functions = [make_function(n, date=day) for n, day in enumerate(days)]
    assert sizes(split_records(functions, make_settings(split="date"))) == (46, 5, 9)
    training = split_training([make_function(n, repository=f"r{n % 2}") for n in range(40)], make_settings())
    assert sizes(training) == (36, 4, 0)


def test_more_tests_than_all_else_are_noted():
    sizes_of_two = [make_function(n, repository="large" if n < 70 else "small") for n in range(100)]
    days = [make_function(n, date="2024-01-01" if n < 70 else "2020-01-01") for n in range(100)]
    assert not any("more than half" in note for note in split_records(sizes_of_two, make_settings()).notes)
    note = split_records(days, make_settings(split="date")).notes[0]
    assert note.endswith("70 test (70%), of 1, 1 and 1 days; more than half are tests, as no day is cut")


def test_ready_examples_are_split_by_group_prompt_or_date():
    groups = [make_example(n, f"g{n % 20}", date=f"2024-01-{n % 20 + 1:02}") for n in range(60)]
    settings = make_settings(source="file")
    splits = split_records(groups, settings)
    assert splits.by == "repository"
    assert_apart(splits, lambda record: record.example.group)
    by_date = split_records(groups, make_settings(source="file", split="date"))
    assert_apart(by_date, lambda record: record.date)
    prompts = [make_example(n, prompt=f"p{n % 20}") for n in range(60)]
    splits = split_records(prompts, settings)
    assert splits.by == "record"
    assert_apart(splits, lambda record: record.example.prompt)
    with pytest.raises(DataError, match=r"60 of 60 records have no path.*: repository \(20 groups\), date"):
        split_records(groups, make_settings(source="file", split="folder"))


def test_one_group_for_all_is_split_by_prompt():
    examples = [make_example(n, "all") for n in range(50)]
    assert sizes(split_records(examples, make_settings(source="file"))) == (36, 4, 10)


def test_tests_from_elsewhere_leave_validation_to_be_held_out():
    functions = [make_function(n, repository=f"r{n % 30}") for n in range(90)]
    splits = split_training(functions, make_settings())
    assert sizes(splits) == (81, 9, 0)
    assert splits.notes == (
        "tests come from elsewhere; split by repository: 81 train (90%), 9 validation (10%)",
    )
    own = [make_function(n, partition=("train", "validation", "test")[n % 3]) for n in range(90)]
    splits = split_training(own, make_settings())
    assert sizes(splits) == (30, 30, 0)
    assert splits.notes == (
        "tests come from elsewhere; split by the data's own partitions: 30 train (50%), 30 validation (50%)",
        "30 test records of the source are left unused: tests come from elsewhere",
    )
    with pytest.raises(DataError, match="cannot be split by date"):
        split_training(functions, make_settings(split="date"))


def test_no_records_at_all():
    assert sizes(split_records([], make_settings())) == (0, 0, 0)
    assert sizes(split_records([], make_settings(split="date"))) == (0, 0, 0)
    assert sizes(split_training([], make_settings(split="folder"))) == (0, 0, 0)


def test_too_few_tests_are_said_with_other_ways_to_split():
    functions = [
        make_function(n, repository=f"r{n > 2}", date=f"2024-01-{n % 28 + 1:02}") for n in range(100)
    ]
    assert split_records(functions, make_settings()).notes[-1] == (
        "few records are held out for tests: 3 of 100 (3%); other values of tasks.split: date (28 days), "
        "record (100 records)"
    )
    partitions = [make_function(n, partition="test" if n < 9 else "train") for n in range(100)]
    assert "9 of 100 (9%)" in split_records(partitions, make_settings()).notes[-1]
    many = [make_function(n, partition="test" if n < 10 else "train") for n in range(1000)]
    assert len(split_records(many, make_settings()).notes) == 1, "the makers' own share"
    assert len(split_records([make_function(n) for n in range(20)], make_settings()).notes) == 1


def test_a_tree_with_one_odd_file_is_tested_on_whole_packages():
    functions = [
        make_function(n, repository="one", path=f"src/shop/p{n % 7}/x{n}.py" if n else "vendor/y.py")
        for n in range(146)
    ]
    for seed in range(5):
        splits = split_records(functions, make_settings(seed=seed))
        assert 0.1 < len(splits.test) / 146 < 0.3
        assert_apart(splits, lambda record: record.path.rpartition("/")[0])
        assert "folders with more than 20% of the records are taken apart: 'src/shop'" in splits.notes


def test_equal_units_are_held_out_though_a_small_one_came_first():
    records = ["small", *(f"u{n % 4}" for n in range(40))]
    for seed in range(9):
        kept, held = hold_out(records, lambda record: record, 0.2, seed)
        assert len(held) in (10, 11)
        assert not set(kept) & set(held)
    assert len(hold_out(["small"] + ["large"] * 40, lambda record: record, 0.2, 0)[1]) == 1


def test_without_a_test_part_tests_are_held_out_of_train_and_validation_stays():
    parts = ["train"] * 40 + ["validation"] * 10
    records = [make_example(number, partition=part) for number, part in enumerate(parts)]
    splits = split_records(records, make_settings())
    assert sizes(splits) == (32, 10, 8)
    assert {record.partition for record in splits.validation} == {"validation"}
    assert {record.partition for record in (*splits.train, *splits.test)} == {"train"}
    assert splits.notes[0].startswith("the data have no test part: tests are held out of their 40 train")
