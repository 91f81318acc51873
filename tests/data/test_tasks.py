import re
import sys
from collections import Counter
from dataclasses import replace
from types import ModuleType

import pytest

from codestrata.data.sources import load_records
from codestrata.data.splits import hold_out
from codestrata.data.tasks import check_task, fingerprint_task, load_task
from codestrata.errors import DataError, HubError, SettingsError
from codestrata.records import Example, Task
from codestrata.settings.tasks import TaskSettings


def make_row(number, partition=None, repository=None, **changes):
    row = {
        "code": f'def f{number}():\n    """Answer {number}."""\n    return {number}',
        "docstring": f"Answer {number}.",
        "func_name": f"f{number}",
        "language": "python",
        "repo": repository,
        "partition": partition,
    }
    return row | changes


def make_settings(path, **changes):
    plain = {"name": "python", "source": "codesearchnet", "path": str(path), "near_duplicates": 1.0}
    return TaskSettings(**(plain | changes))


def make_file_settings(path, **changes):
    return make_settings(path, **({"name": "mine", "source": "file"} | changes))


def split_sizes(task):
    return len(task.train), len(task.validation), len(task.test)


def groups_of(task):
    return [{example.group for example in split} for split in (task.train, task.validation, task.test)]


def test_own_partitions_are_used(write_lines):
    rows = [make_row(n, ("train", "train", "train", "valid", "test")[n % 5], f"r{n % 2}") for n in range(50)]
    task = load_task(make_settings(write_lines("a.jsonl", *rows)))
    assert split_sizes(task) == (30, 10, 10)
    assert {int(example.target.split()[-1]) % 5 for example in task.test} == {4}
    assert task.dropped == {}
    assert (task.name, task.language, task.objective, task.evaluation_objective) == (
        "python",
        "python",
        "generate",
        "generate",
    )


def test_training_and_evaluation_objectives_may_differ(write_lines):
    rows = [make_row(n, ("train", "valid", "test")[n % 3]) for n in range(9)]
    settings = make_settings(write_lines("a.jsonl", *rows), objective="copy", evaluation_objective="continue")
    task = load_task(settings)
    assert (task.objective, task.evaluation_objective) == ("copy", "continue")
    assert all(example.prompt == example.target for example in task.train + task.validation)
    assert all(example.target.startswith(example.prompt) for example in task.test)
    assert all(example.target != example.prompt for example in task.test)


@pytest.mark.parametrize("partition", ["test", None])
def test_without_train_and_test_repositories_are_held_out(write_lines, partition):
    path = write_lines("a.jsonl", *[make_row(n, partition, f"r{n % 40}") for n in range(200)])
    task = load_task(make_settings(path))
    assert split_sizes(task) == (145, 15, 40)
    train, validation, test = groups_of(task)
    assert not train & validation
    assert not (train | validation) & test
    assert task.dropped == {}
    assert task.notes == (
        "split by repository: 145 train (72%), 15 validation (8%), 40 test (20%), "
        "of 29, 3 and 8 repositories",
    )
    assert load_task(make_settings(path)) == task
    assert groups_of(load_task(make_settings(path, seed=1))) != groups_of(task)


def test_a_split_does_not_depend_on_the_order_of_records(write_lines):
    rows = [make_row(n, "test", f"r{n % 40}") for n in range(200)]
    task = load_task(make_settings(write_lines("a.jsonl", *rows)))
    assert load_task(make_settings(write_lines("b.jsonl", *reversed(rows)))) == task


def test_without_repositories_records_are_held_out(write_lines):
    task = load_task(make_settings(write_lines("a.jsonl", *map(make_row, range(100)))))
    assert split_sizes(task) == (72, 8, 20)
    assert task.notes == ("split by record: 72 train (72%), 8 validation (8%), 20 test (20%)",)


def test_limits_take_a_seeded_sample(write_lines):
    path = write_lines("a.jsonl", *[make_row(n, ("train", "valid", "test")[n % 3]) for n in range(90)])
    whole = load_task(make_settings(path))
    limits = {"train_examples": 7, "validation_examples": 0, "test_examples": 5}
    task = load_task(make_settings(path, **limits))
    assert split_sizes(task) == (7, 0, 5)
    assert task.train == whole.train[:7]
    assert task.test == whole.test[:5]
    assert [example.identifier for example in task.train] != sorted(
        example.identifier for example in task.train
    )
    assert load_task(make_settings(path, seed=1, **limits)).train != task.train


def test_records_that_cannot_serve_are_counted(write_lines):
    rows = [make_row(n, ("train", "valid", "test")[n % 3]) for n in range(30)]
    rows += [make_row(100, "train", docstring=""), make_row(101, "test", docstring=None)]
    rows += [make_row(102, "train", language="ruby"), make_row(103, "train", code="")]
    rows += [rows[0], make_row(2, "train", "copied/elsewhere"), make_row(1, "train", "copied/too")]
    task = load_task(make_settings(write_lines("a.jsonl", *rows)))
    assert split_sizes(task) == (10, 10, 10)
    assert task.dropped == {
        "language is ruby": 1,
        "no code": 1,
        "no docstring": 2,
        "repeated record": 1,
        "repeats a record of a held-out split": 2,
    }


def test_no_example_for_train_or_test_is_an_error(write_lines):
    rows = [make_row(0, "train"), make_row(1, "test", docstring="")]
    path = write_lines("a.jsonl", *rows)
    message = f"{path}: task 'python' has no test examples out of 1 test records (dropped: no docstring: 1)"
    with pytest.raises(DataError, match=re.escape(message)):
        load_task(make_settings(path))
    path = write_lines("b.jsonl", make_row(0, "test", "one/repository"))
    with pytest.raises(DataError, match="no test examples out of 0 test records"):
        load_task(make_settings(path))


def test_the_language_is_the_name_unless_set(write_lines):
    path = write_lines("a.jsonl", *map(make_row, range(9)))
    task = load_task(make_settings(path, name="snakes", language="python"))
    assert (task.name, task.language) == ("snakes", "python")
    with pytest.raises(DataError, match=r"set tasks\.snakes\.language"):
        load_task(make_settings(path, name="snakes"))


def test_the_hub_is_asked_where_there_is_no_path(monkeypatch):
    def load_functions(language, path, *, task, **demands):
        raise HubError(f"{language} {path} {task}")

    monkeypatch.setattr("codestrata.data.sources.load_functions", load_functions)
    with pytest.raises(HubError, match="ruby None gems"):
        load_task(TaskSettings(name="gems", language="ruby", source="codesearchnet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licenses": ("MITT",)}, r"tasks\.python\.licenses"),
        ({"exclude": ("humanevel",)}, r"tasks\.python\.exclude.*humaneval"),
        ({"exclude": ("mined:absent",)}, r"tasks\.python\.exclude names 'absent', which is not there"),
        ({"source": "mined", "path": "absent"}, "no such file or folder to mine"),
        ({"test_source": "mined", "test_path": "absent"}, "no such file or folder to mine"),
        ({"source": "mined", "language": "ruby", "path": None}, "only Python and JavaScript"),
    ],
)
def test_what_is_known_to_be_wrong_is_said_before_anything_is_read(changes, message, tmp_path):
    settings = make_settings(tmp_path / "unread.jsonl")
    with pytest.raises((DataError, SettingsError), match=message):
        check_task(replace(settings, **changes))
    check_task(settings)
    check_task(TaskSettings(name="python"))


def test_kata_is_made_by_its_own_module(monkeypatch):
    problems = ModuleType("problems")
    problems.load_kata = lambda settings: ("kata", settings)
    monkeypatch.setitem(sys.modules, "codestrata.data.kata.problems", problems)
    settings = TaskSettings(name="python")
    assert load_task(settings) == ("kata", settings)


def make_problem(number):
    """A problem in MBXP's original fields."""
    head = f'def f{number}(x):\n    """Add {number}."""\n'
    return {
        "task_id": f"MBPP/{number}",
        "language": "python",
        "prompt": head,
        "entry_point": f"f{number}",
        "description": f"Add {number}.",
        "canonical_solution": f"    return x + {number}\n",
        "test": f"def check(f):\n    assert f(1) == {number + 1}\n\ncheck(f{number})\n",
    }


def test_tests_are_worded_for_what_evaluation_asks(write_lines):
    path = write_lines("mbxp.jsonl", *[make_problem(n) for n in (11, 12, 511, 601, 602, 603)])
    settings = make_settings(path, source="mbxp", objective="generate", evaluation_objective="complete")
    task = load_task(settings)
    assert split_sizes(task) == (3, 1, 2)
    assert all(example.target.startswith("def f60") for example in task.train)
    assert {example.target for example in task.test} == {"    return x + 11\n", "    return x + 12\n"}
    assert all(example.prelude for example in task.test)
    assert not any(example.prelude for example in task.train)


def test_tests_that_evaluation_cannot_ask_for_are_counted(write_lines, monkeypatch):
    path = write_lines("mbxp.jsonl", *[make_problem(n) for n in (11, 12, 511, 601, 602, 603)])
    settings = make_settings(path, source="mbxp", objective="generate", evaluation_objective="complete")

    def load_some(settings, source, path, objective, **options):
        found = load_records(settings, source, path, objective, **options)
        return replace(found, records=found.records[1:]) if objective == "complete" else found

    monkeypatch.setattr("codestrata.data.tasks.load_records", load_some)
    task = load_task(settings)
    assert split_sizes(task) == (3, 1, 1)
    assert task.dropped == {"test without a form for complete": 1}


def make_examples(count, **changes):
    return [{"prompt": f"p{n}", "target": f"t{n}", "id": n, "tests": "pass"} | changes for n in range(count)]


def test_a_file_with_its_own_test_file(write_lines):
    train = write_lines("train.jsonl", *make_examples(50), {"prompt": "q1", "target": "leaks"})
    test = write_lines("test.jsonl", *[{"prompt": f"q{n}", "target": "t"} for n in range(5)])
    task = load_task(make_file_settings(train, test_path=str(test)))
    assert split_sizes(task) == (45, 5, 5)
    assert {example.prompt for example in task.test} == {f"q{n}" for n in range(5)}
    assert task.train[0].tests == "pass"
    assert task.dropped == {"repeats a record of a held-out split": 1}
    assert task.language == "mine"


def write_overlapping(write_lines):
    """Files of 40 training and 5 test examples: one has an earlier content, others have earlier ids."""
    train = write_lines("train.jsonl", *make_examples(40))
    test = [{"prompt": f"q{n}", "target": "t", "id": f"q{n}"} for n in range(3)]
    test += [{"prompt": "p7\r\n", "target": " t7", "id": "other"}, {"prompt": "q9", "target": "t", "id": 3}]
    return train, write_lines("test.jsonl", *test)


def test_files_that_share_examples_are_refused_with_both_places(write_lines):
    train, test = write_overlapping(write_lines)
    message = (
        f"{test}:4: has the prompt and target of {train}:8: 1 of 5 test examples are training examples too. "
        "Take them out of one of the files, or accept it with tasks.mine.allow_overlap=true"
    )
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_task(make_file_settings(train, test_path=str(test)))
    assert (caught.value.path, caught.value.line) == (str(test), 4)
    rows = test.read_text(encoding="utf-8").splitlines()
    test = write_lines("test.jsonl", *rows[:3], *rows[4:])
    assert len(load_task(make_file_settings(train, test_path=str(test))).test) == 4, "ids say nothing"
    with pytest.raises(DataError, match="40 of 40 test examples"):
        load_task(make_file_settings(train, test_path=str(train)))


def test_a_folder_whose_train_and_test_files_share_examples_is_refused(write_lines):
    train = write_lines("own/train.jsonl", *make_examples(20))
    test = write_lines(
        "own/test.jsonl", *[row | {"prompt": f"q{n}"} for n, row in enumerate(make_examples(5))]
    )
    assert split_sizes(load_task(make_file_settings(train.parent))) == (20, 0, 5), "equal ids are no overlap"
    write_lines("own/test.jsonl", {"prompt": "q", "target": "t"}, *make_examples(2))
    message = f"{test}:2: has the prompt and target of {train}:1: 2 of 3 test examples"
    with pytest.raises(DataError, match=re.escape(message)):
        load_task(make_file_settings(train.parent))
    task = load_task(make_file_settings(train.parent, allow_overlap=True))
    assert split_sizes(task) == (20, 0, 3)
    assert task.notes[-1] == "2 of 3 test examples occur in training too, as allow_overlap permits"


def test_shared_examples_that_are_allowed_stay_and_are_counted(write_lines):
    train, test = write_overlapping(write_lines)
    task = load_task(
        make_file_settings(train, test_path=str(test), allow_overlap=True, validation_examples=0)
    )
    assert split_sizes(task) == (40, 0, 5)
    assert task.notes == (
        "tests come from elsewhere; split by record: 40 train (100%), 0 validation (0%)",
        "1 of 5 test examples occur in training too, as allow_overlap permits",
    )
    assert task.dropped == {}
    same = load_task(make_file_settings(train, test_path=str(train), allow_overlap=True))
    assert split_sizes(same) == (36, 4, 40)
    assert not {example.prompt for example in same.train} & {example.prompt for example in same.validation}
    assert same.notes[1:] == ("36 of 40 test examples occur in training too, as allow_overlap permits",)


def test_names_made_from_lines_are_no_overlap(write_lines):
    rows = [{"prompt": f"p{n}", "target": "t"} for n in range(20)]
    train = write_lines("one/data.jsonl", *rows[:15])
    test = write_lines("two/data.jsonl", {**rows[15], "id": "data.jsonl:1"}, *rows[16:])
    task = load_task(make_file_settings(train, test_path=str(test)))
    assert {example.identifier for example in task.train} & {example.identifier for example in task.test}
    assert len(task.notes) == 1


def test_repeated_examples_of_a_file_are_left_out_and_counted(write_lines):
    rows = [*make_examples(20), {"prompt": "p3", "target": "t3", "id": "again"}]
    task = load_task(make_file_settings(write_lines("mine.jsonl", *rows)))
    assert sum(split_sizes(task)) == 20
    assert task.dropped == {"repeats a record of its own split": 1}
    assert sum(task.duplicates["removed"]["exact"].values()) == 1
    test = write_lines("test.jsonl", *[{"prompt": "q", "target": "t"}] * 3)
    task = load_task(make_file_settings(write_lines("train.jsonl", *make_examples(9)), test_path=str(test)))
    assert len(task.test) == 1
    assert task.duplicates["removed"]["exact"]["within test"] == 2


def test_a_record_in_two_partitions_is_allowed_where_that_is_set(write_lines):
    rows = [make_row(n, ("train", "train", "test")[n % 3]) for n in range(30)]
    path = write_lines("a.jsonl", *rows, make_row(0, "test"), make_row(29, "train"))
    with pytest.raises(
        DataError, match=re.escape(f"{path}:31: the record of {path}:1 again, there for train")
    ):
        load_task(make_settings(path))
    task = load_task(make_settings(path, allow_overlap=True))
    assert split_sizes(task) == (21, 0, 11)
    assert task.notes == (
        "split by the data's own partitions: 21 train (66%), 0 validation (0%), 11 test (34%)",
        "2 of 11 test examples occur in training too, as allow_overlap permits",
    )
    assert task.duplicates["kept"] == {"exact": {"validation-test": 0, "train-test": 2}, "near": None}
    assert task.dropped == {}


def test_a_record_in_two_partitions_is_one_where_we_split(write_lines):
    rows = [make_row(n, ("validation", "test")[n % 2]) for n in range(30)]
    path = write_lines("a.jsonl", *rows, make_row(0, "test"))
    task = load_task(make_settings(path, allow_overlap=True))
    splits = task.train + task.validation + task.test
    assert len(splits) == len({example.identifier for example in splits}) == 30


def test_a_file_alone_is_split_by_prompt(write_lines):
    rows = [{"prompt": f"p{n % 50}", "target": f"t{n}"} for n in range(100)]
    path = write_lines("mine.jsonl", *rows)
    task = load_task(make_file_settings(path, train_examples=1000))
    assert split_sizes(task) == (72, 8, 20)
    prompts = [{example.prompt for example in split} for split in (task.train, task.validation, task.test)]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 50
    assert load_task(make_file_settings(path)) == task
    assert load_task(make_file_settings(path, seed=5)).test != task.test


def test_a_file_is_split_by_group_and_still_shares_no_prompt(write_lines):
    rows = [
        {"prompt": "same for all" if n % 10 == 0 else f"p{n}", "target": "t", "group": f"g{n % 20}"}
        for n in range(200)
    ]
    task = load_task(make_file_settings(write_lines("mine.jsonl", *rows)))
    train, validation, test = groups_of(task)
    assert not train & validation
    assert not (train | validation) & test
    splits = [
        split
        for split in (task.train, task.validation, task.test)
        if "same for all" in {e.prompt for e in split}
    ]
    assert len(splits) == 1


def test_small_files(write_lines):
    assert split_sizes(load_task(make_file_settings(write_lines("2.jsonl", *make_examples(2))))) == (1, 0, 1)
    assert split_sizes(load_task(make_file_settings(write_lines("3.jsonl", *make_examples(3))))) == (1, 1, 1)
    with pytest.raises(DataError, match="task 'mine' has no test examples"):
        load_task(make_file_settings(write_lines("1.jsonl", *make_examples(1))))


def test_hold_out_takes_groups_that_fit():
    examples = [
        Example(identifier=f"{group}{n}", prompt="", target="", group=group)
        for group, size in (("huge", 90), ("a", 4), ("b", 3), ("c", 3))
        for n in range(size)
    ]
    for seed in range(10):
        kept, held = hold_out(examples, lambda example: example.group, 0.1, seed)
        assert Counter(example.group for example in held) == {"a": 4, "b": 3, "c": 3}
        assert len(kept) == 90
        kept, held = hold_out(examples, lambda example: example.group, 0.01, seed)
        assert list(Counter(example.group for example in held).values()) == [3], "a smallest group"


def test_fingerprints_cover_every_example_and_split(write_lines):
    path = write_lines("mine.jsonl", *make_examples(40))
    task = load_task(make_file_settings(path))
    assert fingerprint_task(task) == fingerprint_task(load_task(make_file_settings(path)))
    assert re.fullmatch("[0-9a-f]{64}", fingerprint_task(task))
    changed = [
        make_task(task, train=task.train[1:]),
        make_task(task, train=task.train[::-1]),
        make_task(task, train=(*task.train[:-1], Example(identifier="x", prompt="p", target="t"))),
        make_task(task, test=task.validation, validation=task.test),
        make_task(task, test=(), unseen=task.test),
    ]
    assert len({fingerprint_task(each) for each in [task, *changed]}) == 6
    assert fingerprint_task(make_task(task, name="other")) == fingerprint_task(task)


def make_task(task, **changes):
    return Task(**(vars(task) | changes))


def test_a_fingerprint_is_pinned():
    """Components carry this number: a change here breaks what was stored."""
    example = Example(identifier="1", prompt="p", target="t")
    task = Task(
        name="n",
        language="l",
        objective="o",
        evaluation_objective="o",
        train=(example,),
        validation=(),
        test=(example,),
    )
    assert fingerprint_task(task) == "0fb235cf0eeda426f0afcad5dd863959f81936f9e40420109773306c8c5ae1be"


def test_real_records_of_the_founding_task(shared_data):
    settings = make_settings(
        shared_data / "codesearchnet",
        objective="copy",
        evaluation_objective="continue",
        train_examples=15000,
        validation_examples=5000,
        test_examples=50,
    )
    task = load_task(settings)
    assert split_sizes(task) == (216, 24, 50)
    train, validation, test = groups_of(task)
    assert not train & validation
    assert not (train | validation) & test
    assert sum(count for reason, count in task.dropped.items() if reason.startswith("language is ")) == 1500
    identifiers = [example.identifier for example in task.train + task.validation + task.test]
    assert len(set(identifiers)) == 290


def test_real_records_with_docstrings_cut(shared_data):
    task = load_task(make_settings(shared_data / "cosqa" / "python.jsonl", train_examples=300))
    assert split_sizes(task) == (300, 100, 300)
    assert not any('"""' + example.prompt in example.target for example in task.test)


def test_where_a_licence_takes_every_record_that_is_said_whatever_the_split(write_lines):
    path = write_lines("a.jsonl", *(make_row(n, repository=f"r{n}", path=f"p{n}/a.py") for n in range(12)))
    for split in (None, "folder", "record", "repository"):
        with pytest.raises(DataError, match=r"no test examples .*\(dropped: licence unknown: 12\)"):
            load_task(make_settings(path, licenses=("MIT",), split=split))
