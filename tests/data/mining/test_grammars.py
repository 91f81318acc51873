"""The tables of grammars: every query is one of its grammar, and frames do not move lines."""

import pytest

from codestrata.data.mining.grammars import RULES, load_mining_grammar, load_query
from codestrata.data.mining.tokens import RULES as LEAF_RULES


@pytest.mark.parametrize("language", sorted(RULES))
def test_queries_and_node_types_are_of_the_grammar(language):
    rules, leaf_rules, grammar = RULES[language], LEAF_RULES[language], load_mining_grammar(language)
    query = load_query(language)
    names = {query.capture_name(number) for number in range(query.capture_count)}
    assert "function" in names
    assert names <= {"function", "class", "comment", "before", "value", "holder", "name", "wrapper"}
    rare = leaf_rules.silent | leaf_rules.layout
    silent = {kind for rule in rare for kind in (rule if isinstance(rule, tuple) else (rule,))}
    types = rules.method_types | rules.constructor_types | leaf_rules.whole | leaf_rules.lists | silent
    known = {grammar.node_kind_for_id(number) for number in range(grammar.node_kind_count)}
    assert types <= known


def test_the_query_of_typescript_reads_elements_of_jsx_too():
    assert load_query("typescript", with_markup=True).pattern_count == load_query("typescript").pattern_count


def test_frames_begin_in_the_line_of_the_fragment():
    assert all("\n" not in prefix for rules in RULES.values() for prefix, _ in rules.frames)
