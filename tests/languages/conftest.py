"""What confines programs in these tests: the machine's best rung, plain limits where there is none."""

from functools import lru_cache

import pytest

from codestrata.languages.confinement import RUNGS, Isolation, find_obstacle
from codestrata.languages.isolation import choose_isolation, explain_refusal
from codestrata.languages.runtimes import LANGUAGES
from codestrata.languages.sandbox import Program, run_programs

PLACES = [
    (language, rung) for language in LANGUAGES for rung in RUNGS if rung != "deno" or language == "javascript"
]


@lru_cache
def choose(language):
    return choose_isolation(language, allow_unconfined=True)


@pytest.fixture(params=PLACES, ids="-".join)
def place(request):
    """(language, rung) for every rung that this machine offers."""
    language, rung = request.param
    obstacle = find_obstacle(language, rung) or explain_refusal(language, rung)
    if obstacle is not None:
        pytest.skip(f"{rung} is not to be had here for {language}: {obstacle}")
    return language, rung


@pytest.fixture
def run():
    """A function that runs programs, given as sources or as (source, tests)."""

    def run_sources(language, *sources, timeout_seconds=5, memory_mib=128, rung=None, **options):
        programs = [Program(*((entry,) if isinstance(entry, str) else entry)) for entry in sources]
        plain = Isolation(language=language, rung=rung, runtime=None, refused={})
        isolation = choose(language) if rung is None else plain
        limits = {"timeout_seconds": timeout_seconds, "memory_mib": memory_mib, **options}
        return run_programs(language, programs, isolation=isolation, **limits)

    return run_sources
