"""Documentation in its own words: docstrings, cleaned comments, summaries, and what is none."""

import pytest

from codestrata.data.mining.documentation import (
    DIRECTIVES,
    build_summary,
    clean_comments,
    cut_summary,
    is_directive,
    is_header,
    read_docstring,
)

LITERALS = {
    '"""  Doc.\n    More. """': "Doc.\n    More.",
    "'Doc.'": "Doc.",
    'r"""A \\d."""': "A \\d.",
    "u'''Doc.'''": "Doc.",
    'R"Doc."': "Doc.",
    '"""A "quoted\\""""': 'A "quoted\\"',
    '""""Quoted" first."""': '"Quoted" first.',
    '""': "",
    '""""""': "",
    'b"""Doc."""': "",
    'f"Doc."': "",
    "Rb'Doc.'": "",
    '"""never closed': "",
}


@pytest.mark.parametrize("literal", sorted(LITERALS))
def test_docstrings_are_read_as_they_stand(literal):
    assert read_docstring([literal]) == LITERALS[literal]


def test_literals_in_a_row_are_one_docstring_unless_one_is_none():
    assert read_docstring(['"One "', "'two.'"]) == "One two."
    assert read_docstring(['"One "', "f'two.'"]) == ""


COMMENTS = [
    ("java", ["/** Doc. */"], "Doc."),
    ("java", ["/**\n   * One.\n   *\n   * Two.\n   */"], "One.\n\nTwo."),
    ("java", ["/**\n   * One.\n   *   Further.\n   */"], "One.\n  Further."),
    ("java", ["/**\r\n * One.\r\n * Two.\r\n */"], "One.\nTwo."),
    ("java", ["/**\n\t *\tOne.\n\t *\tTwo.\n\t */"], "One.\nTwo."),
    ("java", ["/**\n *One.\n *Two.\n **/"], "One.\nTwo."),
    ("java", ["/*****\n * One.\n *****/"], "One."),
    ("javascript", ["/** One.\n * Two. */"], "One.\nTwo."),
    ("javascript", ["/*\n   One.\n     Further.\n*/"], "One.\n  Further."),
    ("javascript", ["/*\nA list:\n* one\n* two\nEnd.\nReally.\n*/"], "A list:\n* one\n* two\nEnd.\nReally."),
    ("javascript", ["/**\n * A list:\n * * one\n * * two\n */"], "A list:\n* one\n* two"),
    ("javascript", ["/*\n* one\nof them.\nEnd.\n*/"], "* one\nof them.\nEnd."),
    ("javascript", ["/**/"], ""),
    ("javascript", ["/***/"], ""),
    ("javascript", ["/* never closed"], "never closed"),
    ("javascript", ["// One", "//  - two", "//"], "One\n - two"),
    ("javascript", ["//One", "// two"], "One\n two"),
    ("javascript", ["/// One", "/// two"], "One\ntwo"),
    ("php", ["# One", "# two"], "One\ntwo"),
    ("ruby", ["# One", "#", "#   two"], "One\n\n  two"),
    ("ruby", ["##", "# One"], "One"),
    ("ruby", ["=begin\nOne\n  two\n=end"], "One\n  two"),
    ("ruby", ["# One\r", "# two\r"], "One\ntwo"),
    ("go", ["// One", "//", "// two"], "// One\n//\n// two"),
    ("go", ["/*\nOne\n*/"], "/*\nOne\n*/"),
    ("go", ["// One\r", "// two\r"], "// One\n// two"),
]


@pytest.mark.parametrize(("language", "comments", "expected"), COMMENTS)
def test_comments_lose_their_marks_and_nothing_else(language, comments, expected):
    assert clean_comments(language, comments) == expected


SUMMARIES = [
    ("python", "One\n    two.\n\n    More.", "One two."),
    ("python", "One.\r\n    \r\n    More.", "One."),
    ("python", "One.\n    \n    More.", "One."),
    ("java", "One {@code two}.\n@param x it", "One {"),
    ("java", "One, see a@b.\n\n@param x it", "One, see a@b."),
    ("java", "@param x it", ""),
    ("go", "// One\n// two.\n//\n// More.", "One two."),
    ("go", "/*\nOne.\n\nMore.\n*/", "One."),
    ("ruby", "", ""),
]


@pytest.mark.parametrize(("language", "docstring", "expected"), SUMMARIES)
def test_a_summary_is_the_first_paragraph_in_one_line(language, docstring, expected):
    assert build_summary(language, docstring) == expected


def test_the_recorded_part_ends_at_an_empty_line_before_it_ends_at_a_tag():
    assert cut_summary("a @b\n\nc") == "a @b"
    assert cut_summary("a\n    \nc @d") == "a\n    \nc "


FOR_TOOLS = {
    "go": ["//go:noinline", "//nolint:all", "// +build linux", "//export Some", "//line a.go:3"],
    "java": [
        "//NOSONAR",
        "// noinspection Some",
        "// CHECKSTYLE:OFF",
        "/* @formatter:off */",
        "//#region Some",
    ],
    "javascript": [
        "/* eslint-disable no-console */",
        "// eslint-disable-next-line",
        "/* global window, document: true */",
        "/* istanbul ignore next */",
        "// @ts-ignore because",
        "/* jshint esversion: 6 */",
        "// prettier-ignore",
        "/*#__PURE__*/",
        "/** @format */",
        "/* @flow */",
        "/// <reference types='node' />",
        "//# sourceMappingURL=some.map",
        "//////////////",
        "// -----------",
        "/*************/",
    ],
    "php": ["// phpcs:ignore", "# @codingStandardsIgnoreStart", "/** @noinspection PhpUnused */"],
    "ruby": [
        "# rubocop:disable Some",
        "# frozen_string_literal: true",
        "# :nodoc:",
        "# -*- coding: utf-8 -*-",
    ],
    "typescript": ["// @ts-expect-error", "// tslint:disable-next-line", "// eslint-disable-line"],
}
FOR_READERS = {
    "go": ["// global logger", "// gopher: an animal", "// Export writes it"],
    "java": ["// region of interest", "/** No inspection. */", "// checkstyle is a tool"],
    "javascript": [
        "// global logger",
        "/* global state of it. */",
        "// formats it",
        "// eslinted",
        "// flow of it",
        "// ```",
    ],
    "php": ["# phpcsx", "// The coding standards"],
    "ruby": ["# encoding of the text", "# typed: by whom", "# nodoc"],
    "typescript": ["// tsc does it", "// @tsx"],
}


@pytest.mark.parametrize("language", sorted(DIRECTIVES))
def test_comments_for_tools_are_told_from_documentation(language):
    assert [comment for comment in FOR_TOOLS[language] if not is_directive(language, comment)] == []
    assert [comment for comment in FOR_READERS[language] if is_directive(language, comment)] == []


def test_headers_are_about_files():
    for text in (
        "Copyright (c) 2010 Somebody",
        "Copyright 2010 Somebody",
        "SPDX-License-Identifier: MIT",
        "some.js\nLicensed under the Apache License",
        "@fileoverview What is here.",
        "@license MIT",
    ):
        assert is_header(text)
    for text in (
        "Checks the license key.",
        "Copyrights it.",
        "@copyright of it\n@param x it",
        "Returns (c).",
    ):
        assert not is_header(text)
