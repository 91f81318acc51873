from codestrata.data.codesearchnet import Function
from codestrata.data.units import describe_apart, name_folders


def name_units(paths, repository="one"):
    """The folders of one record per path."""
    functions = [
        Function(
            identifier=f"f{number}",
            repository=repository,
            name="f",
            language="python",
            code="",
            docstring="",
            partition=None,
            path=path,
        )
        for number, path in enumerate(paths)
    ]
    return name_folders(functions)


def test_folders_are_those_that_tell_files_apart():
    paths = [f"src/pkg/{folder}/x{n}.py" for folder in "abcdef" for n in range(3)]
    folders = name_units([*paths, "src/pkg/main.py", "src/pkg/cli.py"])
    assert set(folders.units.values()) == {"one/src/pkg", *(f"one/src/pkg/{folder}" for folder in "abcdef")}
    assert folders.units["one", "src/pkg/main.py"] == folders.units["one", "src/pkg/cli.py"]
    assert describe_apart(folders) == ()


def test_a_large_folder_is_taken_apart_again_and_again():
    paths = [f"src/a/{n % 6}/x{n}.py" for n in range(60)] + [f"src/b/x{n}.py" for n in range(9)]
    folders = name_units([*paths, "vendor/y.py", *(f"src\\a\\own{n}.py" for n in range(5))])
    assert set(folders.units.values()) == {
        "one/vendor",
        "one/src/b",
        "one/src/a",
        *(f"one/src/a/{number}" for number in range(6)),
    }
    assert folders.units["one", "src/a/3/x3.py"] == "one/src/a/3"
    assert folders.apart == ("src", "src/a")
    again = name_units([*reversed([*paths, "vendor/y.py", *(f"src\\a\\own{n}.py" for n in range(5))])])
    assert again == folders


def test_files_of_one_folder_stay_together_unless_they_are_most():
    paths = [f"a/x{n}.py" for n in range(10)] + [f"b/x{n}.py" for n in range(10)]
    assert set(name_units(paths).units.values()) == {"one/a", "one/b"}
    folders = name_units(paths[:10])
    assert set(folders.units.values()) == {f"one/a/x{n}.py" for n in range(10)}
    assert "'a by file'" in describe_apart(folders)[0]
    folders = name_units([*paths[:10], "b/x.py"])
    assert len(set(folders.units.values())) == 11


def test_the_note_names_the_first_folders_only():
    paths = [f"top{n % 5}/in{n}/x.py" for n in range(20)] + [
        f"src/{n % 2}/{n % 4}/x{n}.py" for n in range(80)
    ]
    (note,) = describe_apart(name_units(paths))
    assert note == "folders with more than 20% of the records are taken apart: 'src', 'src/0', 'src/1'"


def test_folders_of_two_repositories_are_two():
    one = name_units(["src/a/x.py", "src/b/x.py"], "one").units
    two = name_units(["lib/a/x.py", "lib/b/x.py"], "two").units
    assert len({*one.values(), *two.values()}) == 4
