"""Planted duplicates, leaks and secrets, looked for as a run does: through ``load_task``."""

import json
import random

import pytest

from codestrata.data.tasks import load_task
from codestrata.errors import DataError, SettingsError
from codestrata.settings.tasks import TaskSettings

KEY = "AKIA" + "QYLPMN5HHHFPZAM2"


def make_code(number, words=60):
    """A function of its own: what two of them share is not worth mentioning."""
    rng = random.Random(number)
    names = [f"{rng.choice('abcdefgh')}{rng.randrange(10**6)}" for _ in range(words // 3)]
    lines = [f"    {name} = {rng.randrange(10**6)}" for name in names]
    return "\n".join([f"def f{number}(x):", *lines, "    return x"])


def make_row(number, partition=None, code=None, **changes):
    row = {
        "code": code or make_code(number),
        "docstring": f"Answer {number}.",
        "func_name": f"f{number}",
        "language": "python",
        "repo": f"r{number % 10}",
        "partition": partition,
    }
    return row | changes


def make_settings(path, **changes):
    return TaskSettings(**({"name": "python", "source": "codesearchnet", "path": str(path)} | changes))


def make_rows(count=60):
    return [make_row(n, ("train", "train", "train", "validation", "test")[n % 5]) for n in range(count)]


def targets(task):
    return [{example.target for example in split} for split in (task.train, task.validation, task.test)]


def change(number):
    """The code of a function with one number in it changed, and other spaces."""
    lines = make_code(number).split("\n")
    lines[3] = lines[3].rsplit(" ", 1)[0] + "  1"
    return "\n".join(lines)


def test_clean_data_lose_nothing(write_lines):
    task = load_task(make_settings(write_lines("a.jsonl", *make_rows())))
    assert task.dropped == {}
    assert (len(task.train), len(task.validation), len(task.test)) == (36, 12, 12)
    found = task.duplicates
    assert found["threshold"] == 0.8
    assert found["looked_at"] == {"test": 12, "validation": 12, "train": 36}
    assert not any(found["removed"]["exact"].values())
    assert not any(found["removed"]["near"].values())
    assert found["examples"] == []
    assert found["method"]["library"].startswith("datasketch 2")


def test_planted_duplicates_and_leaks_are_found_and_left_out(write_lines):
    """Function 4 is a test, 3 validates, 0 trains; copies of each are planted everywhere."""
    planted = [
        make_row(100, "train", change(4)),
        make_row(101, "train", make_code(4)),
        make_row(102, "train", change(3)),
        make_row(103, "validation", change(4)),
        make_row(104, "test", change(4)),
        make_row(105, "train", make_code(0)),
    ]
    task = load_task(make_settings(write_lines("a.jsonl", *make_rows(), *planted)))
    train, validation, test = targets(task)
    assert not {make_code(4), change(4), change(3)} & train
    assert change(4) not in validation
    assert len({make_code(4), change(4)} & test) == 1, "one of two that are nearly the same"
    removed = task.duplicates["removed"]
    kept_number = 4 if make_code(4) in test else 104
    assert removed["near"] == {
        "within test": 1,
        "within validation": 0,
        "within train": 0,
        "train-validation": 1,
        "validation-test": 1 - (kept_number == 104),
        "train-test": 1,
    }
    assert removed["exact"] == {
        "within test": 0,
        "within validation": 0,
        "within train": 1,
        "train-validation": 0,
        "validation-test": int(kept_number == 104),
        "train-test": 1,
    }
    assert sum(task.dropped.values()) == 6
    examples = task.duplicates["examples"]
    assert len(examples) == 6
    assert examples[0]["pair"] == "train-test", "leaks first"
    leak = next(e for e in examples if e["pair"] == "train-validation")
    assert (leak["kind"], leak["same"], leak["removed"]) == ("near", "tokens", True)
    assert leak["identifier"].startswith("r2:f102:")
    assert leak["repeats"].startswith("r3:f3:")
    assert 0.8 <= leak["jaccard"] < 1
    assert leak["quote"].startswith("def f3(x):")
    json.dumps(task.duplicates)


def test_other_words_around_the_same_code_are_a_leak(write_lines):
    def document(number, words):
        head, _, rest = make_code(number).partition("\n")
        return f'{head}\n    """{words}"""\n{rest}'

    rows = [*make_rows(), make_row(100, "test", document(100, "Some words. " * 40), docstring="Some.")]
    rows.append(make_row(101, "train", document(100, "Very different ones! " * 40), docstring="Different."))
    task = load_task(make_settings(write_lines("a.jsonl", *rows)))
    assert task.dropped == {"nearly repeats a record of a held-out split": 1}
    assert task.duplicates["examples"][0]["jaccard"] == 1


def test_near_duplicates_stay_where_only_equal_ones_are_to_go(write_lines):
    rows = [*make_rows(), make_row(100, "train", change(4)), make_row(101, "train", make_code(4))]
    task = load_task(make_settings(write_lines("a.jsonl", *rows), near_duplicates=1.0))
    assert task.dropped == {"repeats a record of a held-out split": 1}
    assert change(4) in targets(task)[0]
    assert task.duplicates["method"] is None
    assert task.duplicates["removed"]["near"] is None
    assert "only equal records" in task.duplicates["near_reason"]


def test_only_records_that_are_looked_at_count(write_lines):
    path = write_lines("a.jsonl", *make_rows())
    task = load_task(make_settings(path, train_examples=5, validation_examples=2, test_examples=3))
    assert task.duplicates["looked_at"] == {"test": 3, "validation": 2, "train": 5}


def test_overlap_that_is_allowed_is_counted_and_kept(write_lines):
    rows = [*make_rows(), make_row(100, "train", change(4)), make_row(101, "train", make_code(4))]
    rows.append(make_row(102, "train", change(0)))
    task = load_task(make_settings(write_lines("a.jsonl", *rows), allow_overlap=True))
    assert sum(task.dropped.values()) == 2, "within training nothing repeats: 100 and 101, 0 and 102"
    kept = task.duplicates["kept"]
    assert kept["exact"]["train-test"] + kept["near"]["train-test"] == 1
    assert {make_code(4), change(4)} & targets(task)[0]


@pytest.mark.parametrize("how", ["a file of examples", "a file of functions", "by its source"])
def test_excluded_sets_are_never_trained_on(write_lines, how):
    path = write_lines("a.jsonl", *make_rows())
    if how == "a file of functions":
        name = str(write_lines("eval.jsonl", make_row(200, "train", change(0)), make_row(201)))
    elif how == "a file of examples":
        name = str(write_lines("eval.jsonl", {"prompt": "Question?", "target": change(0)}))
    else:
        head, _, body = change(0).partition("\n")
        problem = {
            "task_id": "HumanEval/0",
            "prompt": f'{head}\n    """Answer."""\n',
            "entry_point": "f0",
            "canonical_solution": body,
            "test": "def check(candidate):\n    pass\n",
        }
        name = f"humaneval:{write_lines('eval.jsonl', problem)}"
    task = load_task(make_settings(path, exclude=(name,)))
    assert task.dropped == {f"nearly repeats a record of the excluded {name}": 1}
    assert make_code(0) not in targets(task)[0]
    assert task.duplicates["removed"]["near"][f"train-excluded:{name}"] == 1
    assert task.duplicates["looked_at"][f"excluded:{name}"] == (2 if how == "a file of functions" else 1)


def test_a_benchmark_loses_only_equal_problems(write_lines):
    problems = [
        {
            "task_id": f"HumanEval/{number}",
            "prompt": f'def g{number}(x):\n    """Answer."""\n',
            "entry_point": f"g{number}",
            "canonical_solution": make_code(50).partition("\n")[2],
            "test": "def check(candidate):\n    pass\n",
        }
        for number in (0, 1, 2)
    ]
    tested = {"test_source": "humaneval", "test_path": str(write_lines("he.jsonl", *problems))}
    path = write_lines("a.jsonl", *make_rows())
    task = load_task(make_settings(path, **tested))
    assert len(task.test) == 3
    assert "nearly repeats a record of its own split" not in task.dropped
    task = load_task(make_settings(path, **tested, near_duplicates=0.3))
    assert len(task.test) == 1
    assert task.duplicates["removed"]["near"]["within test"] == 2


def test_near_duplicates_of_excluded_sets_are_looked_for_in_files_too(write_lines):
    rows = [{"prompt": make_code(n), "target": f"answer {n}", "id": str(n)} for n in range(40)]
    path = write_lines("mine.jsonl", *rows)
    name = str(write_lines("eval.jsonl", *[row | {"prompt": row["prompt"] + " + 1"} for row in rows]))
    settings = {"name": "mine", "source": "file", "exclude": (name,)}
    with pytest.raises(DataError, match=r"nearly repeats a record of the excluded .*: 3"):
        load_task(make_settings(path, **settings))
    task = load_task(make_settings(path, **settings, near_duplicates=1.0))
    assert task.dropped == {}
    assert task.duplicates["removed"]["near"] is None
    name = str(write_lines("eval.jsonl", *[row | {"prompt": row["prompt"] + " + 1"} for row in rows[:2]]))
    task = load_task(make_settings(path, **settings | {"exclude": (name,)}))
    found = task.duplicates
    assert (found["threshold"], found["excluded_threshold"], found["near_reason"]) == (1.0, 0.8, None)
    assert set(found["removed"]["near"]) == {f"validation-excluded:{name}", f"train-excluded:{name}"}
    assert sum(found["removed"]["near"].values()) == sum(task.dropped.values())


def test_what_is_excluded_may_be_tested(write_lines):
    rows = make_rows()
    name = str(write_lines("eval.jsonl", *[row for row in rows if row["partition"] == "test"]))
    task = load_task(make_settings(write_lines("a.jsonl", *rows), exclude=(name,)))
    assert task.dropped == {}
    assert len(task.test) == 12


def test_examples_of_a_file_with_near_duplicates(write_lines):
    rows = [{"prompt": make_code(n), "target": f"answer {n}", "id": str(n)} for n in range(40)]
    rows += [{"prompt": change(n), "target": f"answer {n}", "id": f"again {n}"} for n in range(40)]
    path = write_lines("mine.jsonl", *rows)
    settings = {"name": "mine", "source": "file", "train_examples": 100}
    whole = load_task(make_settings(path, **settings))
    assert sum(map(len, (whole.train, whole.validation, whole.test))) == 80
    task = load_task(make_settings(path, **settings, near_duplicates=0.7))
    taken = [e.identifier.removeprefix("again ") for e in (*task.train, *task.validation, *task.test)]
    assert sorted(taken, key=int) == [str(n) for n in range(40)]
    assert sum(task.duplicates["removed"]["near"].values()) == 40


def test_the_same_in_every_order_of_equal_seed(write_lines):
    rows = [*make_rows(), *[make_row(100 + n, "train", change(n)) for n in range(20)]]
    task = load_task(make_settings(write_lines("a.jsonl", *rows)))
    again = load_task(make_settings(write_lines("b.jsonl", *reversed(rows))))
    assert task.train == again.train
    assert task.duplicates == again.duplicates


def test_records_with_secrets_are_left_out_and_counted(write_lines):
    code = make_code(100).replace("    return x", f'    key = "{KEY}"\n    return x')
    path = write_lines("a.jsonl", *make_rows(), make_row(100, "train", code))
    task = load_task(make_settings(path))
    assert task.dropped == {"contains a secret": 1}
    assert KEY not in json.dumps(task.duplicates)
    kept = load_task(make_settings(path, keep_secrets=True))
    assert kept.dropped == {}
    assert "1 examples contain a secret, as keep_secrets permits" in kept.notes
    assert code in targets(kept)[0]


def test_no_quote_where_records_with_secrets_are_kept(write_lines):
    rows = [*make_rows(), make_row(100, "train", change(4))]
    path = write_lines("a.jsonl", *rows)
    (example,) = load_task(make_settings(path, keep_secrets=True)).duplicates["examples"]
    assert example["quote"] is None


def test_licences_that_were_not_asked_for_are_left_out_and_counted(write_lines):
    licenses = ["MIT", "GPL-3.0-only", None, "Apache-2.0 OR MIT"]
    rows = [row | {"license": licenses[n % 4]} for n, row in enumerate(make_rows())]
    path = write_lines("a.jsonl", *rows)
    task = load_task(make_settings(path, licenses=("MIT",)))
    assert task.dropped == {"licence GPL-3.0-only": 15, "licence unknown": 15}
    assert len(task.train) + len(task.validation) + len(task.test) == 30
    assert load_task(make_settings(path, licenses=("mit",))).train == task.train
    with pytest.raises(DataError, match=r"no test examples .*licence unknown: 60"):
        load_task(make_settings(write_lines("b.jsonl", *make_rows()), licenses=("MIT",)))
    with pytest.raises(SettingsError, match=r"tasks\.python\.licenses names 'MTI', .* Did you mean 'MIT'"):
        load_task(make_settings(path, licenses=("MTI",)))


def test_a_licence_of_any_length_is_named_in_short(write_lines):
    rows = [row | {"license": "MIT" if n else "x" * 9000} for n, row in enumerate(make_rows())]
    task = load_task(make_settings(write_lines("a.jsonl", *rows), licenses=("MIT",)))
    assert list(task.dropped.values()) == [1]
    assert len(next(iter(task.dropped))) < 100


def test_tests_from_another_source(write_lines):
    """Functions to train on, ready examples to test: code of the tests is not trained on."""
    path = write_lines("a.jsonl", *make_rows())
    rows = [{"prompt": "Do it.", "target": change(0)}, {"prompt": "x", "target": "y"}]
    tests = write_lines("tests.jsonl", *rows)
    task = load_task(make_settings(path, test_source="file", test_path=str(tests)))
    assert {example.prompt for example in task.test} == {"Do it.", "x"}
    assert len(task.validation) == 12
    assert task.dropped == {"nearly repeats a record of a held-out split": 1}
    assert "12 test records of the source are left unused: tests come from elsewhere" in task.notes


@pytest.mark.parametrize("key", ["func_name", "repo", "path"])
def test_a_secret_in_a_name_is_a_secret(write_lines, key):
    rows = make_rows()
    rows[0][key] = KEY
    task = load_task(make_settings(write_lines("a.jsonl", *rows)))
    assert task.dropped["contains a secret"] == 1


def test_an_excluded_name_that_is_a_secret_is_not_shown(write_lines):
    rows = make_rows()
    excluded = write_lines("b.jsonl", {"id": KEY, "prompt": "p", "target": rows[0]["code"]})
    task = load_task(make_settings(write_lines("a.jsonl", *rows), exclude=(str(excluded),)))
    [shown] = task.duplicates["examples"]
    assert shown["repeats"].startswith("<hidden: ")
