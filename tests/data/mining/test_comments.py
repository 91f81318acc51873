"""Which comment documents what follows it."""

import pytest

from codestrata.data.mining.definitions import extract

CASES = [
    ("javascript", "/** Doc. */\n\nfunction f() {}", "Doc."),
    ("javascript", "// Doc.\nfunction f() {}", "Doc."),
    ("javascript", "// apart\n\nfunction f() {}", ""),
    ("javascript", "/* apart */\n\nfunction f() {}", ""),
    ("javascript", "// apart\n\n// Doc.\n// More.\nfunction f() {}", "Doc.\nMore."),
    ("javascript", "/** Doc. */\n// how it is done\nfunction f() {}", "Doc."),
    ("javascript", "/** Doc. */\n// eslint-disable-next-line a\nfunction f() {}", "Doc."),
    ("javascript", "/** Other. */\n/** Doc. */\nfunction f() {}", "Doc."),
    ("javascript", "/** apart */\n\n// eslint-disable-next-line a\nfunction f() {}", ""),
    ("javascript", "/* plain */\n// Doc.\nfunction f() {}", "Doc."),
    ("javascript", "x(); // behind\nfunction f() {}", ""),
    ("javascript", "x(); /** behind */\nfunction f() {}", ""),
    ("javascript", "x(); /** Doc. */ function f() {}", "Doc."),
    ("javascript", "/** of x */ x(); function f() {}", ""),
    ("javascript", "// ----\n// Doc.\n// ----\nfunction f() {}", "Doc."),
    ("javascript", "/**/\nfunction f() {}", ""),
    ("javascript", "/* Copyright 2010 Somebody */\nfunction f() {}", ""),
    ("javascript", "#!/usr/bin/node\n/* Licensed under MIT */\nfunction f() {}", ""),
    ("javascript", "x();\n/** Copyright 2010 of it. */\nfunction f() {}", "Copyright 2010 of it."),
    (
        "javascript",
        "/** Copyright 2010 Somebody\n@param {x} y */\nfunction f() {}",
        "Copyright 2010 Somebody\n@param {x} y",
    ),
    ("javascript", "/** Doc. */\nexport default async function f() {}", "Doc."),
    ("javascript", "x = {\n/** Doc. */\nf: function () {} }", "Doc."),
    ("javascript", "/** of a */\nvar a = 1, f = function () {}", ""),
    ("javascript", "/** of the call */\ncall(function f() {})", ""),
    ("javascript", "/** Doc. */ f = /* inside */ function () {}", "Doc."),
    ("java", "class A { int x; // behind\n void f() {} }", ""),
    ("java", "class A {\n /** Doc. */\n @B(c = 1)\n /* inside */ void f() {} }", "Doc."),
    ("php", "<?php /** Doc. */\nfunction f() {}", "Doc."),
    ("php", "<?php\n/** Doc. */\n#[A]\nfunction f() {}", "Doc."),
    ("php", "<?php\n// phpcs:ignore\nfunction f() {}", ""),
    ("go", "package a\n\n// Doc.\n//go:noinline\nfunc f() {}", "// Doc.\n//go:noinline"),
    ("go", "package a\n\n// Doc.\n\n/* apart */\n\nfunc f() {}", ""),
    ("ruby", "# -*- coding: utf-8 -*-\n# Doc.\ndef f; end", "Doc."),
    ("ruby", "# Doc.\nprivate_class_method def self.f; end", "Doc."),
    ("ruby", "x = 1 # behind\ndef f; end", ""),
    ("ruby", "# Doc.\r\n# More.\r\ndef f; end", "Doc.\nMore."),
    ("typescript", "class A {\n/** Doc. */\n@B({c: 1})\n@D\nf() {} }", "Doc."),
    ("typescript", "/** of g */\ndeclare function g(): void;\nfunction f() {}", ""),
]


@pytest.mark.parametrize(("language", "source", "expected"), CASES)
def test_the_comment_before_a_function_documents_it(language, source, expected):
    extraction = extract(language, source)
    assert not extraction.has_errors
    assert [found.docstring for found in extraction.functions] == [expected]


def test_the_prefix_of_a_fragment_is_no_part_of_its_first_line():
    (found,) = extract("java", "// Doc.\npublic void f() {}").functions
    assert found.docstring == "Doc."
