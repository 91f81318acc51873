"""One frozen code model, one swappable component per task, and a measured answer to what to train next.

The public names are resolved when first used, so that importing codestrata loads nothing heavy.

What this does not do: anything at import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codestrata.components.hybrid import register_with_peft
    from codestrata.data.tasks import load_task
    from codestrata.errors import CodestrataError
    from codestrata.experiment.walk import run_experiment
    from codestrata.models.loading import load_base
    from codestrata.records import Example, Task
    from codestrata.settings.tree import Settings, build_settings

    __version__: str

__all__ = [
    "CodestrataError",
    "Example",
    "Settings",
    "Task",
    "__version__",
    "build_settings",
    "load_base",
    "load_task",
    "register_with_peft",
    "run_experiment",
]

_HOMES = {
    "CodestrataError": "codestrata.errors",
    "Example": "codestrata.records",
    "Settings": "codestrata.settings.tree",
    "Task": "codestrata.records",
    "build_settings": "codestrata.settings.tree",
    "load_base": "codestrata.models.loading",
    "load_task": "codestrata.data.tasks",
    "register_with_peft": "codestrata.components.hybrid",
    "run_experiment": "codestrata.experiment.walk",
}


def __getattr__(name: str) -> Any:
    """The public name out of the module that defines it (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version  # takes longer to import than the rest of this module

        return version("codestrata")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
