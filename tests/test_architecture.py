"""The house rules of the package, kept by reading its source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

import codestrata

PACKAGE = Path(codestrata.__file__).parent

# A module imports from lower floors, and a module in a folder from that folder too; never up, never sideways.
# Every module may raise, so the errors lie below the ground floor.
FLOORS = {
    -1: ("errors",),
    0: ("records", "files", "progress", "locks", "interrupts"),
    1: ("settings", "presets", "contracts", "environment", "languages", "analysis", "manifests", "hub"),
    2: ("data", "models", "metrics", "store", "journal", "checkpoints", "report"),
    3: ("components", "retention", "engine", "results"),
    4: ("training", "evaluation", "validation", "controls", "selection", "lab", "methods", "merging"),
    5: ("experiment", "diagnosis", "inspection", "answering", "pretraining"),
    6: ("planning", "server", "sweep", "exporting", "verification", "dispatch"),
    7: ("cli",),
    8: ("__main__",),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}

VAGUE_NAMES = {"utils", "util", "common", "base", "manager", "helpers", "helper", "misc"}
BROAD_EXCEPTIONS = {"Exception", "BaseException"}
# A runner answers for whatever an untrusted program raises, SystemExit included.
MAY_CATCH_EVERYTHING = {"codestrata.languages.runners.python"}

# What changes a disk goes through `files`, where it is durable and tests can make it fail; but for these.
MAY_WRITE = {
    "codestrata.files": "the one place",
    "codestrata.locks": "a lock is a file that is open, not a content",
    "codestrata.engine.states": "a cache outside the run, written in place as states are computed",
    "codestrata.data.tokens": "a cache outside the run, of arrays that are mapped into memory",
    "codestrata.engine.memory": "resets a counter of the kernel's in /proc",
    "codestrata.pretraining": "transformers writes the checkpoint that is shipped",
    "codestrata.exporting.exports": "transformers writes the checkpoint; the folder is moved when whole",
    "codestrata.languages.containment": "what attacks find is thrown away",
    "codestrata.languages.sandbox": "what programs write is thrown away",
    "codestrata.languages.runners.python": "runs without the package; what programs write is thrown away",
}
NAMED_CHANGES = {
    "mkdtemp",
    "mkstemp",
    "NamedTemporaryFile",
    "rmtree",
    "save_file",
    "save_model",
    "TemporaryDirectory",
}
CHANGES = NAMED_CHANGES | {
    *(
        "chmod",
        "copyfile",
        "copytree",
        "copy2",
        "ftruncate",
        "hardlink_to",
        "link",
        "makedirs",
        "mkdir",
        "rename",
    ),
    *(
        "renames",
        "rmdir",
        "save_pretrained",
        "savefig",
        "symlink",
        "symlink_to",
        "touch",
        "truncate",
        "unlink",
    ),
    *("write_bytes", "write_text"),
}
"""Methods that change a disk, whatever they belong to; those of the first line also as functions."""
DOTTED_CHANGES = {"os.remove", "os.write", "np.save", "np.savez", "shutil.copy", "shutil.move", "torch.save"}
WRITING_FLAGS = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC")


def name_module(path: Path) -> str:
    """The dotted name under which ``path`` is imported."""
    parts = [PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}
INSIDE = [name for name in MODULES if name != "codestrata"]


@cache
def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def list_imports(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import anywhere in ``tree``; ``from a import b`` gives ``a.b``."""
    package = module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, name) for name in names if isinstance(name, str))


def find_fault(module: str, imported: str) -> str | None:
    """Why ``module`` may not import the codestrata name ``imported``, or ``None`` where it may."""
    folder, target = module.split(".")[1], imported.split(".")[1:2]
    if not target or target[0] not in FLOOR_OF:
        return f"{imported} is no module on the table FLOORS: import from the module that defines the name"
    if target[0] == folder or FLOOR_OF[target[0]] < FLOOR_OF[folder]:
        return None
    return f"floor {FLOOR_OF[folder]} may not import {imported} of floor {FLOOR_OF[target[0]]}"


def list_floor_faults(tree: ast.Module, module: str) -> list[str]:
    """``module:line: fault`` for every import of ``tree`` that does not point down."""
    faults = []
    for line, imported in list_imports(tree, module):
        if imported.split(".")[0] == "codestrata" and (fault := find_fault(module, imported)):
            faults.append(f"{module}:{line}: {fault}")
    return faults


def list_packages_imported(module: str) -> set[str]:
    """The top-level packages that a module imports."""
    return {imported.split(".")[0] for _, imported in list_imports(parse(module), module)}


def list_broad_handlers(tree: ast.Module) -> list[int]:
    """Lines of handlers that catch everything and do not raise again at their end."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(entry is None or ast.unparse(entry).split(".")[-1] in BROAD_EXCEPTIONS for entry in caught):
            lines.append(node.lineno)
    return lines


def list_disk_changes(tree: ast.Module) -> list[int]:
    """Lines of calls that change a disk or open a file for it."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and changes_disk(node)]


def changes_disk(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if isinstance(call.func, ast.Name):
        return name in NAMED_CHANGES or (name == "open" and opens_to_write(call))
    method = name.split(".")[-1]
    if method == "replace":  # of a path; that of a text takes two arguments, that of a date only keywords
        return len(call.args) == 1 or name == "os.replace"
    if name == "os.open":
        return any(flag in ast.unparse(call) for flag in WRITING_FLAGS)
    if method in ("open", "fdopen", "open_memmap", "memmap"):
        return opens_to_write(call)
    return method in CHANGES or name in DOTTED_CHANGES


def opens_to_write(call: ast.Call) -> bool:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    texts = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
    modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwaxbt+")]
    return any(set(mode) & set("wax+") for mode in modes)


def select_top_level(tree: ast.Module) -> ast.Module:
    """What runs at import: the statements outside functions and ``if TYPE_CHECKING``."""
    apart = (ast.FunctionDef, ast.AsyncFunctionDef)
    kept = [node for node in tree.body if not isinstance(node, apart) and not is_for_type_checking(node)]
    return ast.Module(body=kept, type_ignores=[])


def is_for_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def list_loaded(statement: str, unwanted: set[str]) -> set[str]:
    """Which of ``unwanted`` packages a fresh interpreter has loaded after ``statement``."""
    program = f"{statement}\nimport sys; print(*(set(sys.modules) & {unwanted!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", INSIDE)
def test_every_module_stands_on_a_floor(module):
    name = module.split(".")[1]
    assert name in FLOOR_OF, f"{module} is on no floor: add {name!r} to FLOORS in {Path(__file__).name}"


@pytest.mark.parametrize("module", INSIDE)
def test_imports_point_down(module):
    faults = list_floor_faults(parse(module), module)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("codestrata.files", "from codestrata.settings import Settings"),
        ("codestrata.files", "def read():\n    from codestrata import store"),
        ("codestrata.store", "import codestrata.results"),
        ("codestrata.data.mining", "from codestrata.models.loading import load_base"),
        ("codestrata.training", "from codestrata import Settings"),
        ("codestrata.training", "import codestrata"),
        ("codestrata.data.mining", "from ..experiment import run_experiment"),
        ("codestrata.methods", "from importlib import import_module\nimport_module('codestrata.cli.main')"),
        ("codestrata.settings", "if TYPE_CHECKING:\n    from codestrata.methods import Method"),
    ],
)
def test_an_import_that_points_up_or_sideways_is_found(module, source):
    assert len(list_floor_faults(ast.parse(source), module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("codestrata.settings", "from codestrata.errors import SettingsError"),
        ("codestrata.settings", "from codestrata import errors"),
        ("codestrata.data.kata.problems", "from codestrata.data.objectives import build"),
        ("codestrata.data.mining", "from .objectives import build"),
        ("codestrata.cli.main", "import codestrata.report.page"),
    ],
)
def test_an_import_that_points_down_passes(module, source):
    assert not list_floor_faults(ast.parse(source), module)


@pytest.mark.parametrize("module", [name for name in INSIDE if MODULES[name].name == "__init__.py"])
def test_init_files_of_folders_are_empty(module):
    assert not MODULES[module].read_text(encoding="utf-8").strip(), f"{MODULES[module]} must be empty"


@pytest.mark.parametrize("module", INSIDE)
def test_names_of_modules_say_what_is_inside(module):
    vague = VAGUE_NAMES.intersection(module.split("."))
    assert not vague, f"{module}: {', '.join(vague)} could hold anything; name the noun"


@pytest.mark.parametrize("module", [name for name in MODULES if name not in MAY_CATCH_EVERYTHING])
def test_no_handler_swallows_everything(module):
    lines = list_broad_handlers(parse(module))
    assert not lines, f"{module}: lines {lines} catch everything: name the exception, or end in raise"


@pytest.mark.parametrize(
    "handler",
    [
        "except:",
        "except Exception:",
        "except BaseException as error:",
        "except (ValueError, Exception):",
        "except builtins.Exception:",
    ],
)
def test_a_broad_handler_is_found_unless_it_ends_in_raise(handler):
    assert list_broad_handlers(ast.parse(f"try:\n    f()\n{handler}\n    g()")) == [3]
    assert list_broad_handlers(ast.parse(f"try:\n    f()\n{handler}\n    g()\n    raise")) == []


@pytest.mark.parametrize("module", [name for name in MODULES if name not in MAY_WRITE])
def test_the_disk_is_changed_through_one_module(module):
    lines = list_disk_changes(parse(module))
    assert not lines, (
        f"{module}: lines {lines} change a disk: use codestrata.files, or give a reason in MAY_WRITE"
    )


@pytest.mark.parametrize("module", MAY_WRITE)
def test_what_may_change_a_disk_does(module):
    assert list_disk_changes(parse(module)), f"{module} changes no disk: take it out of MAY_WRITE"


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text('')",
        "Path(a, b).write_bytes(b'')",
        "path.mkdir(parents=True)",
        "(folder / name).unlink()",
        "path.replace(other)",
        "os.replace(a, b)",
        "os.remove(a)",
        "os.open(a, os.O_RDONLY | os.O_CREAT)",
        "open(path, 'w')",
        "open(path, mode='r+b')",
        "path.open('ab')",
        "gzip.open(path, 'wt')",
        "np.save(path, array)",
        "shutil.rmtree(path)",
        "rmtree(path)",
        "tempfile.mkdtemp()",
        "save_file(tensors, path)",
        "model.save_pretrained(folder)",
        "figure.savefig(path)",
    ],
)
def test_a_change_of_the_disk_is_found(source):
    assert list_disk_changes(ast.parse(source)) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "write_text(path, '')",
        "remove(path)",
        "names.remove(name)",
        "text.replace('a', 'b')",
        "replace(cell, row=1)",
        "rename(flows)",
        "os.open(path, os.O_RDONLY)",
        "open(path)",
        "path.open('rb')",
        "open(path, encoding='utf-8')",
        "store.open(model, rows)",
        "component.write(name, folder, about)",
    ],
)
def test_what_leaves_the_disk_alone_passes(source):
    assert list_disk_changes(ast.parse(source)) == []


@pytest.mark.parametrize("module", [name for name in INSIDE if name.startswith("codestrata.analysis.")])
def test_analysis_needs_only_numpy_and_scipy(module):
    allowed = {"codestrata", "numpy", "scipy", *sys.stdlib_module_names}
    assert list_packages_imported(module) <= allowed


@pytest.mark.parametrize("module", [name for name in INSIDE if name.startswith("codestrata.report")])
def test_report_is_written_without_torch(module):
    assert not list_packages_imported(module) & {"torch", "transformers", "peft", "accelerate"}


def test_the_root_module_imports_only_the_standard_library():
    packages = {
        imported.split(".")[0]
        for _, imported in list_imports(select_top_level(parse("codestrata")), "codestrata")
    }
    assert packages <= sys.stdlib_module_names


@pytest.mark.parametrize("statement", ["import codestrata", "import codestrata.settings"])
def test_importing_stays_light(statement):
    heavy = {"torch", "transformers", "peft", "accelerate", "datasets", "numpy", "scipy"}
    assert not list_loaded(statement, heavy)


@pytest.mark.parametrize("name", codestrata.__all__)
def test_public_names_resolve(name):
    try:
        assert getattr(codestrata, name) is not None
    except (ImportError, AttributeError) as error:
        pytest.fail(f"codestrata.{name} is promised in codestrata/__init__.py: {error}")


def test_public_names_are_the_ones_that_type_checkers_see():
    blocks = [node for node in parse("codestrata").body if is_for_type_checking(node)]
    seen = {
        alias.name: node.module
        for block in blocks
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == codestrata._HOMES
    assert sorted([*seen, "__version__"]) == sorted(codestrata.__all__)


def test_unknown_public_names_are_refused():
    with pytest.raises(AttributeError, match="module 'codestrata' has no attribute 'run_experimnet'"):
        _ = codestrata.run_experimnet


def test_dir_lists_the_public_names():
    assert set(codestrata.__all__) <= set(dir(codestrata))
