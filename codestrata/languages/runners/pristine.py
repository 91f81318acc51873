"""Undo what a program did to builtins, modules, classes and functions; loaded by path by the Python runner.

A completion runs in the same interpreter as the tests that judge it. Before it runs, everything that the
tests import is imported and remembered; after it, all that is put back, and the tests get builtins of their
own.

What this does not do: undo changes inside other objects (a list, an instance, memory through ``ctypes``), or
hold against what a completion does later, when the tests call it, other than to builtins.
"""

import ast
import builtins
import importlib
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
MISSING = object()
TOOLS = 6  # of sys.monitoring, Python 3.12 and later

# Taken now: by name they could be others later.
stop_tracing, stop_profiling, set_depth = sys.settrace, sys.setprofile, sys.setrecursionlimit
BUILTINS = vars(builtins)


class Snapshot:
    """What builtins are, and the modules that tests import, with all that these use.

    Functions are remembered with their code and defaults, which can be exchanged in place.
    """

    def __init__(self, imported: Iterable[str]) -> None:
        self.builtins = dict(BUILTINS)
        self.loaded = dict(sys.modules)
        self.finders = list(sys.meta_path)
        self.depth = sys.getrecursionlimit()
        self.modules: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.classes: dict[type, dict[str, Any]] = {}
        self.functions: dict[types.FunctionType, tuple[Any, Any, Any, Any]] = {}
        waiting = list(imported)
        while waiting:
            waiting += self.add_module(waiting.pop())

    def add_module(self, name: str) -> list[str]:
        """Take in a module, unless it is there; the names of the modules that it uses."""
        module = self.loaded.get(name)
        # builtins are kept apart; what is no plain module (lazy ones) has no names to put back.
        if name in self.modules or name == "builtins" or type(module) is not types.ModuleType:
            return []
        attributes = vars(module)
        self.modules[name] = attributes, dict(attributes)
        used = []
        for value in list(attributes.values()):
            self.add_value(value)
            used.append(value.__name__ if type(value) is types.ModuleType else find_home(value))
        return [name for name in used if isinstance(name, str)]

    def add_value(self, value: Any) -> None:
        """Take in a class, with all in it, or a function; pass by anything else."""
        if isinstance(value, type):
            if value not in self.classes and not value.__flags__ & IMMUTABLE_TYPE:
                self.classes[value] = dict(vars(value))
                for inner in self.classes[value].values():
                    self.add_value(inner)
        else:
            for function in list_functions(value):
                keywords = function.__kwdefaults__
                kept = None if keywords is None else (keywords, dict(keywords))
                self.functions[function] = (function, function.__code__, function.__defaults__, kept)

    def restore(self) -> None:
        """Put everything back."""
        self.restore_builtins()
        stop_tracing(None)
        stop_profiling(None)
        set_depth(self.depth)
        for name, (attributes, kept) in self.modules.items():
            restore_attributes(name, attributes, kept)
        sys.modules.update(self.loaded)
        sys.meta_path[:] = self.finders
        for kind, attributes in self.classes.items():
            restore_class(kind, attributes)
        for function, code, defaults, keywords in self.functions.values():
            if function.__code__ is not code:
                function.__code__ = code
            if function.__defaults__ is not defaults:
                function.__defaults__ = defaults
            if keywords is not None:
                function.__kwdefaults__ = keywords[0]
                if keywords[0] != keywords[1]:
                    keywords[0].clear()
                    keywords[0].update(keywords[1])
        stop_monitoring()

    def restore_builtins(self) -> None:
        """Put the builtins back; no name is looked up in them on the way."""
        BUILTINS.clear()
        BUILTINS.update(self.builtins)


def find_home(value: Any) -> Any:
    """The name of the module that a class or function comes from; ``None`` for other values."""
    return value.__module__ if isinstance(value, (type, types.FunctionType)) else None


def list_functions(value: Any) -> Iterator[types.FunctionType]:
    """The Python functions that a value of a module or class is, or is made of."""
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, (staticmethod, classmethod)):
        yield from list_functions(value.__func__)
    elif type(value) is property:
        for part in (value.fget, value.fset, value.fdel):
            yield from list_functions(part)


def restore_attributes(name: str, attributes: dict[str, Any], kept: dict[str, Any]) -> None:
    """Put a module's names back; modules inside it that came since then stay."""
    if len(attributes) != len(kept) or attributes.keys() != kept.keys():
        for key in [key for key in attributes if key not in kept]:
            if attributes[key] is not sys.modules.get(f"{name}.{key}", MISSING):
                del attributes[key]
    for key, value in kept.items():
        if attributes.get(key, MISSING) is not value:
            attributes[key] = value


def restore_class(kind: type, kept: dict[str, Any]) -> None:
    """Put a class's attributes back, past any ``__setattr__`` of its metaclass."""
    present = type.__dict__["__dict__"].__get__(kind)
    changes = [(key, MISSING) for key in present if key not in kept]
    changes += [(key, value) for key, value in kept.items() if present.get(key, MISSING) is not value]
    for key, value in changes:
        try:
            if value is MISSING:
                type.__delattr__(kind, key)
            else:
                type.__setattr__(kind, key, value)
        except (AttributeError, TypeError):  # what cannot be set was not changed by setting
            continue


def stop_monitoring() -> None:
    """Switch off what watches or changes running code in Python 3.12 and later."""
    monitoring: Any = getattr(sys, "monitoring", None)
    for tool in range(TOOLS if monitoring else 0):
        if monitoring.get_tool(tool) is not None:
            monitoring.free_tool_id(tool)


def list_names(tests: str) -> tuple[list[str], set[str]]:
    """The modules that import statements in ``tests`` name, and all names that ``tests`` use.

    Raises: SyntaxError and its like: the tests are no Python.
    """
    imported: list[str] = []
    used: set[str] = set()
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return imported, used


def import_all(names: Iterable[str]) -> None:
    """Import every module that is there; of ``from a import b``, ``a.b`` may be none."""
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)


def build_test_namespace(given: dict[str, Any], used: set[str], pristine: dict[str, Any]) -> dict[str, Any]:
    """The globals in which tests run: what the completion defined, over builtins of their own.

    A completion's name that is also a builtin's (``def sorted``) counts only where the tests use no other
    name of the completion's: then it is what they test.
    """
    names = {name: value for name, value in given.items() if not name.startswith("__")}
    shadowing = {name for name in names if name in pristine}
    if shadowing and (used & set(names)) - shadowing:
        names = {name: value for name, value in names.items() if name not in shadowing}
    return {**names, "__name__": "__main__", "__builtins__": dict(pristine)}
