import pytest

from codestrata.languages.decisions import DECISIONS
from codestrata.languages.parsing import list_languages, load_grammar


def test_every_language_has_a_table():
    assert sorted(DECISIONS) == list_languages()


@pytest.mark.parametrize("language", DECISIONS)
def test_every_node_type_is_in_the_grammar(language):
    table, grammar = DECISIONS[language], load_grammar(language)
    types = table.nodes | table.labels | table.operations
    assert not {name for name in types if grammar.id_for_node_kind(name, True) is None}
