import keyword

import pytest

from codestrata.languages.keywords import KEYWORDS
from codestrata.languages.parsing import list_languages


def test_every_language_has_keywords():
    assert sorted(KEYWORDS) == list_languages()


def test_python_keywords_are_pythons():
    assert KEYWORDS["python"] == set(keyword.kwlist) | {"match", "case", "type"}


@pytest.mark.parametrize("language", ["c_sharp", "go", "java", "javascript", "php", "python", "ruby"])
def test_keywords_are_the_published_ones(language):
    package = pytest.importorskip("codebleu.codebleu", reason="the oracle, codebleu 0.7.0, is not installed")
    words = (package.PACKAGE_DIR / "keywords" / f"{language}.txt").read_text(encoding="utf-8").split()
    assert KEYWORDS[language] == set(words)
