import pytest

from codestrata.languages.flows import RULES
from codestrata.languages.parsing import load_grammar


def list_types(rules):
    for group in (
        rules.assignments,
        rules.definitions,
        rules.increments,
        rules.branches,
        rules.alternatives,
        rules.named_loops,
        rules.counted_loops,
        rules.loops,
        rules.first,
        rules.split,
        {header for header, _ in rules.counted_loops.values()},
    ):
        yield from group


@pytest.mark.parametrize("language", RULES)
def test_every_node_type_is_in_the_grammar(language):
    grammar = load_grammar(language)
    unknown = {
        name
        for name in list_types(RULES[language])
        if grammar.id_for_node_kind(name, True) is None and grammar.id_for_node_kind(name, False) is None
    }
    assert not unknown


@pytest.mark.parametrize("language", RULES)
def test_every_field_is_in_the_grammar(language):
    rules, grammar = RULES[language], load_grammar(language)
    parts = [*rules.assignments.values(), *rules.definitions.values(), *rules.named_loops.values()]
    names = {part for several in parts for part in several if isinstance(part, str)}
    names |= {field for _, field in rules.counted_loops.values() if field is not None}
    assert not {name for name in names if grammar.field_id_for_name(name) is None}
