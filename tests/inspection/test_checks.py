"""Whether a task can be made of a file, and what is found in it."""

import gzip
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestrata.data.faults import MOST_NAMED
from codestrata.errors import DataError, ModelError, SettingsError
from codestrata.inspection import contents, repeats
from codestrata.inspection.checks import check_file
from codestrata.inspection.options import CheckOptions, name_options
from codestrata.settings.tasks import ColumnSettings

SCHEMA = json.loads((files("codestrata") / "schemas" / "data_check.schema.json").read_text(encoding="utf-8"))
CHECK = jsonschema.Draft202012Validator(SCHEMA["properties"]["checks"]["items"])
SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOKEN = "ghp_" + "a8F3kZ9mQ2xW7vB4nL6tR1yP5sD0hJcEuGiV"  # of the right form, and nobody's


def make_rows(count):
    """Examples that differ enough to be no near duplicates."""
    return [
        {
            "prompt": f"take item {number} of {'abcdefghij'[number % 10] * 3} and {number * 7} more",
            "target": f"def take_{number}(xs):\n    return xs[{number}] + sum({number}, {number * 3})\n",
            "language": "python",
        }
        for number in range(count)
    ]


@pytest.fixture
def write(tmp_path):
    """A function that writes rows, or text as it is, to a JSONL file."""

    def put(rows, name="own.jsonl"):
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="")
        return path

    return put


def check(path, **options):
    report = check_file(path, CheckOptions(**options))
    CHECK.validate(report)
    assert json.loads(json.dumps(report)) == report
    return report


def test_a_sound_file_can_be_a_task(write):
    report = check(write(make_rows(40)))
    assert (report["usable"], report["source"], report["records"], report["broken"]) == (True, "file", 40, 0)
    assert report["task"]["train"] + report["task"]["validation"] + report["task"]["test"] == 40
    assert report["languages"] == [
        {"language": "python", "records": 40, "parsed_share": 1.0, "parsed_of": 40, "parsed_reason": None}
    ]
    assert report["licenses"] == {"unknown": 40}
    assert report["fields"] == ["prompt", "target", "language"]
    assert report["leaks"] == []


def test_all_broken_lines_are_counted_and_the_first_are_named(write):
    rows = make_rows(30)
    broken = ["{", json.dumps({"prompt": "x"}), json.dumps({"prompt": " ", "target": "y"})] * 5
    report = check(write([rows[0], *broken, *rows[1:]]))
    assert (report["records"], report["broken"], report["usable"]) == (30, 15, False)
    assert len(report["first_broken"]) == MOST_NAMED
    assert [fault["line"] for fault in report["first_broken"]] == list(range(2, 12))
    assert report["first_broken"][1]["problem"].startswith("field 'target' is missing; found: prompt")
    assert report["task_reason"] == "15 records are broken: mend them or take them out"
    assert report["empty_fields"] == {"prompt": 5}


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"question": "x"}', "\0" * 50])
def test_a_file_of_no_known_kind_is_no_error(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    report = check(path)
    assert (report["source"], report["usable"], report["broken"]) == (None, False, 1 if content else 0)
    assert report["task_reason"] == report["first_broken"][0]["problem"]


def test_a_broken_first_line_does_not_hide_the_rest(write):
    report = check(write(["{", *make_rows(12)]))
    assert (report["source"], report["records"], report["broken"]) == ("file", 12, 1)


def test_ids_that_occur_twice_are_broken(write):
    report = check(write([row | {"id": number % 11} for number, row in enumerate(make_rows(12))]))
    assert report["broken"] == 1
    assert report["first_broken"][0]["problem"] == "id '0' was used in line 1 already: ids must differ"


def test_lengths_are_those_of_the_base_against_the_limits(write):
    from codestrata.inspection.contents import load_tokens

    rows = make_rows(10)
    tokenizer, is_causal = load_tokens("pocket")
    prompts = sorted(len(tokenizer(row["prompt"])["input_ids"]) for row in rows)
    report = check(write(rows), max_prompt_tokens=prompts[-2], max_target_tokens=1)
    lengths = report["lengths"]
    assert not is_causal
    assert lengths["prompt"] == {
        "median": (prompts[4] + prompts[5]) / 2,
        "p95": float(prompts[-1]),
        "max": prompts[-1],
        "limit": prompts[-2],
        "truncated": sum(length > prompts[-2] for length in prompts),
    }
    assert lengths["target"]["truncated"] == lengths["measured"] == 10


def test_the_base_may_be_a_decoder_and_is_not_loaded(write, tiny_llama_folder, tmp_path):
    (tmp_path / "base").mkdir()
    for path in tiny_llama_folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / "base" / path.name).write_bytes(path.read_bytes())
    report = check(write(make_rows(10)), base=str(tmp_path / "base"))
    assert report["lengths"]["prompt"]["max"] > 0
    with pytest.raises(ModelError):
        check(write(make_rows(10)), base=str(tmp_path))


def test_planted_duplicates_are_found(write):
    rows = make_rows(30)
    near = rows[7] | {"target": rows[7]["target"] + "# the end\n"}
    long = {"prompt": "p " * 3, "target": " ".join(f"word{number}" for number in range(200))}
    rows += [rows[3], long, long | {"target": long["target"] + " more"}, near]
    found = check(write(rows), near_duplicates=0.7)["duplicates"]
    assert (found["exact"], found["near"]) == (1, 2)
    assert [(entry["line"], entry["repeats"]) for entry in found["examples"]] == [
        (31, "own.jsonl:4"),
        (33, "own.jsonl:32"),
        (34, "own.jsonl:8"),
    ]
    assert check(write(make_rows(30)), near_duplicates=0.7)["duplicates"]["exact"] == 0


def test_of_many_records_the_first_are_compared_and_equal_ones_found_everywhere(write, monkeypatch):
    monkeypatch.setattr(repeats, "MOST_COMPARED", 5)
    rows = make_rows(12)
    near = rows[0] | {"target": rows[0]["target"] + "# end\n"}
    found = check(write([*rows, near, rows[11], rows[0]]), near_duplicates=0.5)["duplicates"]
    assert (found["compared"], found["exact"], found["near"]) == (5, 2, 0)


def test_a_planted_leak_is_found_across_schemas(write):
    rows = make_rows(30)
    function = {
        "code": rows[4]["target"].replace("\n    ", "\n        "),
        "docstring": "Something else.",
        "func_name": "take",
        "language": "python",
    }
    other = function | {"code": "def other(a, b, c):\n    return a * b * c"}
    others = write([function, other], "tests.jsonl")
    [leak] = check(write(rows), against=(str(others),))["leaks"]
    assert (leak["records"], leak["exact"], leak["near"]) == (2, 1, 0)
    assert leak["examples"][0]["line"] == 5
    bare = [{key: row[key] for key in ("prompt", "target")} for row in rows]
    [leak] = check(write(bare), against=(f"codesearchnet:{others}",))["leaks"]
    assert (leak["records"], leak["exact"]) == (2, 1)
    [same] = check(write(rows), against=(str(write(rows[10:12], "more.jsonl")),))["leaks"]
    assert [entry["line"] for entry in same["examples"]] == [11, 12]


def test_near_leaks_are_found_and_no_others(write):
    """Records that share ever less with the set: what is found is what the similarity says."""
    words = [f"word{number}" for number in range(100)]
    rows = [
        {
            "prompt": f"{shared}",
            "target": " ".join(words[:shared] + [f"other{n}" for n in range(100 - shared)]),
        }
        for shared in range(50, 101, 5)
    ]
    others = write([{"prompt": "100", "target": " ".join(words)}], "others.jsonl")
    [leak] = check(write([*rows[:-1], *make_rows(3)]), against=(str(others),), near_duplicates=0.7)["leaks"]
    assert [entry["line"] for entry in leak["examples"]] == [8, 9, 10]
    assert all(entry["jaccard"] >= 0.7 for entry in leak["examples"])
    [nothing] = check(write(make_rows(10)), against=(str(others),))["leaks"]
    assert (nothing["exact"], nothing["near"]) == (0, 0)


def test_a_named_set_that_is_not_there(write):
    with pytest.raises(SettingsError, match=r"Unknown --against 'humanevall'\. Did you mean 'humaneval'"):
        check(write(make_rows(10)), against=("humanevall",))
    with pytest.raises(SettingsError, match=r"--against names 'no\.jsonl', which is not there"):
        check(write(make_rows(10)), against=("humaneval:no.jsonl",))


def test_a_set_of_several_languages_asks_for_the_option(write):
    path = write([{key: row[key] for key in ("prompt", "target")} for row in make_rows(10)])
    with pytest.raises(SettingsError, match=r"mbxp is of several languages, .* with --language"):
        check(path, against=("mbxp",))


def test_messages_name_options_and_no_settings():
    said = "set tasks.check.language, tasks.check.columns.prompt, --set tasks.check.path=FILE or base.name"
    assert name_options(said) == "set --language, --columns prompt, SOURCE:FILE or --base"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_column_named_by_hand_that_no_row_has_is_misuse(tmp_path, name):
    path = tmp_path / name
    path.write_text("question,answer\na,b\n" if name == "a.csv" else '{"question": "a"}\n{"answer": "b"}\n')
    columns = ColumnSettings(prompt="question", target="anwser")
    with pytest.raises(SettingsError, match=r"Unknown column 'anwser'\. Did you mean 'answer'"):
        check(path, columns=columns)
    check(path, columns=ColumnSettings(prompt="question", target="answer"))


def test_a_file_without_records_has_no_broken_ones(tmp_path):
    (tmp_path / "head.csv").write_text("prompt,target\n")
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "folder").mkdir()
    for name, reason in {"head.csv": "no records", "a.py": r"expected .jsonl", "folder": "no file"}.items():
        report = check(tmp_path / name)
        assert report["broken"] == 0
        assert reason in report["task_reason"]


def test_secrets_are_told_by_kind_and_line_alone(write):
    rows = make_rows(12)
    rows[5]["target"] += f"key = '{TOKEN}'\n"
    report = check(write(rows))
    assert report["secrets"]["records"] == 1
    assert [place["line"] for place in report["secrets"]["first"]] == [6]
    assert TOKEN[4:] not in json.dumps(report)


def test_languages_and_what_does_not_parse(write):
    rows = make_rows(12)
    rows[0] |= {"language": "Go", "target": "func F() int { return 1 }"}
    rows[1]["target"] = "def broken(:"
    rows[2] |= {"language": "klingon"}
    rows[3] = {key: rows[3][key] for key in ("prompt", "target")}
    found = {entry["language"]: entry for entry in check(write(rows))["languages"]}
    assert found["go"]["parsed_share"] == 1
    assert (found["python"]["records"], found["python"]["parsed_share"]) == (9, 8 / 9)
    assert found["klingon"]["parsed_reason"].startswith("Unknown language 'klingon'")
    assert found[None]["parsed_reason"] == "the records name no language: say it with --language"
    assert None not in {entry["language"] for entry in check(write(rows), language="lua")["languages"]}


def test_long_code_is_not_parsed(write, monkeypatch):
    monkeypatch.setattr(contents, "LONGEST_PARSED", 10)
    [entry] = check(write(make_rows(10)))["languages"]
    assert entry["parsed_reason"] == "all code is longer than 10 characters"


def test_signs_of_a_wrong_encoding(write):
    rows = make_rows(10)
    rows[0]["prompt"] += " \ufffd"
    rows[1]["target"] += "# \x07"
    rows[2]["target"] += "# naïve"
    path = write(rows)
    path.write_bytes(path.read_bytes().replace(b"}\n", b"}\r\n"))
    report = check(path)
    assert report["texts"] == {"replacement_characters": 1, "control_characters": 1, "not_ascii": 2}
    assert report["files"] == [
        {"name": "own.jsonl", "bytes": path.stat().st_size, "byte_order_mark": False, "crlf_lines": 10}
    ]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    report = check(path)
    assert report["files"][0]["byte_order_mark"] is True
    assert report["broken"] == 1


def test_other_columns_other_types_and_licences(write, tmp_path):
    lines = ["question,answer,license"]
    lines += [f'"take {n} of {n * 3}","f({n}) + {n * 5}",{"MIT" if n % 2 else ""}' for n in range(20)]
    path = write(lines, "own.csv")
    columns = ColumnSettings(prompt="question", target="answer")
    report = check(path, columns=columns, language="python")
    assert (report["source"], report["usable"]) == ("file", True)
    assert report["licenses"] == {"MIT": 10, "unknown": 10}
    assert report["empty_fields"] == {"license": 10}
    assert check(path)["source"] is None
    packed = tmp_path / "own.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in make_rows(20)).encode()))
    report = check(packed)
    assert (report["usable"], report["files"][0]["crlf_lines"]) == (True, None)


def test_functions_and_what_gives_no_example(write):
    rows = [
        {
            "code": f"def f{n}(x):\n    return x + {n}",
            "docstring": f"Add {n} to it." if n else "",
            "func_name": f"f{n}",
            "language": "python",
            "repo": f"r/{n}",
            "license": "MIT",
        }
        for n in range(20)
    ]
    report = check(write(rows))
    assert (report["source"], report["records"], report["usable"]) == ("codesearchnet", 20, True)
    assert sum(report["not_examples"].values()) == 1
    assert report["licenses"] == {"MIT": 20}
    assert report["lengths"]["examples"] == 19
    assert check(write(rows), objective="copy")["not_examples"] == {}


def test_too_little_for_a_task(write):
    report = check(write(make_rows(1)))
    assert (report["broken"], report["usable"]) == (0, False)
    assert "examples" in report["task_reason"]


def test_a_set_of_tests_alone_serves_as_tests(write):
    row = {
        "task_id": "HumanEval/0",
        "prompt": "def one():\n",
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }
    report = check(write([row]))
    assert (report["source"], report["task"], report["usable"]) == ("humaneval", None, True)
    assert 'test_source = "humaneval"' in report["task_reason"]
    report = check(write([row, row]))
    assert (report["broken"], report["usable"]) == (1, False)


def test_a_folder_and_what_is_not_there(write, tmp_path):
    (tmp_path / "own").mkdir()
    for name, part in (("train", make_rows(40)[:30]), ("test", make_rows(40)[30:])):
        write(part, f"own/{name}.jsonl")
    report = check(tmp_path / "own")
    assert [file["name"] for file in report["files"]] == ["test.jsonl", "train.jsonl"]
    assert report["task"]["test"] == 10
    with pytest.raises(SettingsError, match="is not there"):
        check(tmp_path / "absent")


junk = st.sampled_from(
    [
        b"{",
        b"\xff",
        b"\0",
        b"null",
        b"[1]",
        b'{"prompt": 1, "target": 2}',
        b'{"prompt": "a"}',
        b"",
        b"\xef\xbb\xbf",
    ]
) | st.binary(max_size=12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.booleans() | junk, max_size=8), st.sampled_from(["own.jsonl", "own.csv", "own.tsv", "x"]))
def test_any_file_is_described(tmp_path_factory, lines, name):
    path = tmp_path_factory.mktemp("any") / name
    sound = iter(map(json.dumps, make_rows(8)))
    if name.endswith("sv"):
        sound = iter(["prompt,target", *(f"a {n},b {n}" for n in range(8))])
    path.write_bytes(b"\n".join(next(sound).encode() if isinstance(e, bool) else e for e in lines))
    report = check(path)
    assert report["usable"] == (report["task"] is not None)
    assert not (report["usable"] and report["broken"])


class Watcher:
    """Keeps the phases it is told of, and how far they came."""

    def __init__(self):
        self.phases = {}

    def start(self, label, total):
        self.label = label
        self.phases[label] = [total]

    def advance(self, done, note=""):
        self.phases[self.label].append(done)

    def say(self, text):
        """Nothing."""


def test_the_watcher_hears_how_far_it_is(write):
    watcher = Watcher()
    check_file(write(make_rows(1001)), CheckOptions(), watcher)
    assert watcher.phases["read own.jsonl"] == [0, 500, 1000]
    assert watcher.phases["measure"] == [1001, 500, 1000, 1001]
    assert watcher.phases["compare"][:2] == [1001, 0]
    assert "look for secrets" in watcher.phases


@pytest.mark.parametrize(
    ("place", "source", "records"),
    [
        ("codesearchnet/javascript/test.jsonl", "codesearchnet", 300),
        ("codetask/refine", "refine", 5835),
        ("mbxp/mbpp_release_v1.jsonl", "mbxp", 964),
        ("codetask/concode/dev.json", "concode", 2000),
    ],
)
@pytest.mark.slow
def test_real_files(place, source, records):
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real records are not here: {SHARED_DATA} is absent")
    report = check(SHARED_DATA / place)
    assert (report["source"], report["usable"], report["broken"]) == (source, True, 0)
    assert report["records"] == pytest.approx(records, rel=0.02)


def test_leaks_are_found_in_every_language_of_the_records(write):
    code = {
        "python": "def other(a, b, c):\n    return a * b * c",
        "go": "func other(a, b, c int) int {\n\treturn a * b * c\n}",
        "ruby": "def other(a, b, c)\n  a * b * c\nend",
    }
    plain = {"docstring": "Something.", "func_name": "other"}
    others = write([plain | {"code": code[name], "language": name} for name in ("python", "go")], "set.jsonl")
    rows = [{"prompt": name, "target": code[name], "language": name} for name in code]
    [leak] = check(write([*make_rows(10), *rows]), against=(str(others),))["leaks"]
    assert (leak["records"], [entry["line"] for entry in leak["examples"]]) == (2, [11, 12])
    [leak] = check(write(rows), against=(str(others),), language="go")["leaks"]
    assert leak["records"] == 1
    bare = [{key: row[key] for key in ("prompt", "target")} for row in rows]
    assert check(write(bare), against=(str(others),))["leaks"][0]["exact"] == 2
    with pytest.raises(DataError, match="no ruby records"):
        check(write(rows[2:]), against=(str(others),))


def test_of_records_that_are_all_alike_one_is_compared_with(write, monkeypatch):
    added = []
    add = repeats.DuplicateIndex.add
    monkeypatch.setattr(
        repeats.DuplicateIndex, "add", lambda self, *about: added.append(self.threshold) or add(self, *about)
    )
    text = " ".join(f"word{number}" for number in range(300))
    rows = [{"prompt": f"{text} {number}", "target": "x"} for number in range(30)]
    found = check(write(rows), near_duplicates=0.7)["duplicates"]
    assert (found["near"], added.count(0.7)) == (29, 1)


@pytest.mark.parametrize("key", ["id", "group"])
def test_secrets_in_names_are_found_and_not_shown(write, key):
    rows = make_rows(12)
    rows[5][key] = TOKEN
    path = write(rows)
    report = check(path, against=(str(write(rows, "same.jsonl")),))
    assert report["secrets"]["records"] == 1
    assert report["secrets"]["first"][0]["line"] == 6
    assert TOKEN not in json.dumps(report)
