"""Bytes to text: encodings, line breaks, and what is no source."""

import codecs
import os

import pytest

from codestrata.data.mining import texts
from codestrata.data.mining.sources import EMPTY, GENERATED, GONE, LARGE, MINIFIED, UNREADABLE
from codestrata.data.mining.texts import BINARY, UNKNOWN_ENCODING, SourceText, read_content, read_source

SOURCE = 'def f():\n    """Größe und Café."""\n'


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_says_the_encoding(mark, encoding):
    found = read_content(mark + SOURCE.encode(encoding), "python")
    assert (found.text, found.encoding) == (SOURCE, encoding)


@pytest.mark.parametrize(
    "line",
    [
        "# -*- coding: iso-8859-15 -*-\n",
        "#!/usr/bin/env python\n# vim: set fileencoding=iso-8859-15 :\n",
        "\n# coding=iso-8859-15\n",
    ],
)
def test_python_files_may_name_their_encoding(line):
    source = line + "PRICE = '5 €'\n"
    found = read_content(source.encode("iso-8859-15"), "python")
    assert (found.text, found.encoding) == (source, "iso8859-15")


@pytest.mark.parametrize(
    "line", ["x = 1\n# coding: ascii\n", "\n\n# coding: ascii\n", "# coding: nonsense\n", "# coding: rot13\n"]
)
def test_what_python_would_not_take_for_an_encoding_is_none(line):
    found = read_content((line + SOURCE).encode(), "python")
    assert (found.text, found.encoding) == (line + SOURCE, "utf-8")


def test_only_python_has_such_a_line():
    found = read_content(b"# coding: utf-16\ndef f; end\n", "ruby")
    assert found.encoding == "utf-8"


def test_a_wrong_declaration_gives_way_to_utf_8():
    source = "# coding: ascii\n" + SOURCE
    assert read_content(source.encode(), "python").text == source


def test_lines_in_a_western_encoding_are_read():
    found = read_content(SOURCE.encode("windows-1252"), "python")
    assert (found.text, found.encoding) == (SOURCE, "windows-1252")


def test_mixed_encodings_are_read_line_by_line():
    content = "// Größe\n".encode() + "// Café “x”\n".encode("windows-1252") + b"// plain\n"
    found = read_content(content, "javascript")
    assert found.text == "// Größe\n// Café “x”\n// plain\n"
    assert found.encoding == "utf-8 and windows-1252"


def test_a_byte_that_windows_1252_lacks_is_of_another_encoding():
    assert read_content(b"// caf\xe9 \x81\n", "go") == UNKNOWN_ENCODING
    assert read_content(b"\xe9\n", "go") == UNKNOWN_ENCODING


@pytest.mark.parametrize(
    "text",
    [
        "Straße, gemäß, Käse",
        "mise en œuvre des données, où déjà créée",
        "¿Qué pasa, señor? Año",
        "coração não põe ações",
        "perché così città è più",
        "smørrebrød på bordet",
        "räksmörgås år",
        "l'été, «à la façon», Noël, maïs",
        "20 °C ± 5 µm, 10³ m², ½ inch, € 5",
    ],
)
def test_western_languages_are_read(text):
    source = f"# Load the value here. {text}\n"
    assert read_content(source.encode("windows-1252"), "ruby").text == source


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("это не он", "windows-1251"),
        ("да", "windows-1251"),
        ("Ładuje plik i zwraca wartość", "windows-1250"),
        ("źródło danych", "iso-8859-2"),
        ("příkaz", "windows-1250"),
        ("hosszú idő", "windows-1250"),
        ("Dosyalar şifreli", "windows-1254"),
        ("ağaç", "windows-1254"),
        ("設定を読む (config file)", "shift-jis"),
        ("データの値 (value of x)", "shift-jis"),
        ("用户 id", "gbk"),
        ("値 value", "euc-jp"),
        ("값을 value", "euc-kr"),
    ],
)
def test_other_encodings_are_not_taken_for_it(text, encoding):
    content = f"# Load the value here. {text}\n".encode(encoding)
    assert read_content(content, "ruby") == UNKNOWN_ENCODING


def test_the_letters_of_all_lines_decide_together():
    lines = [b"# Prosz\xea\n", b"# Sta\xf1\n"]
    assert all(isinstance(read_content(line, "ruby"), SourceText) for line in lines)
    assert isinstance(read_content(b"".join(lines), "ruby"), SourceText)  # all are Spanish or Portuguese
    assert read_content(b"".join([*lines, b"# Na\xe6\n"]), "ruby") == UNKNOWN_ENCODING


@pytest.mark.parametrize(("text", "encoding"), [("# Привет\n", "koi8-r"), ("# 日本語\n", "shift-jis")])
def test_an_alphabet_that_cannot_be_known_is_skipped(text, encoding):
    assert read_content(text.encode(encoding), "ruby") == UNKNOWN_ENCODING


def test_a_broken_text_with_a_mark_is_skipped():
    assert read_content(codecs.BOM_UTF16_LE + b"a\0b", "python") == UNKNOWN_ENCODING


@pytest.mark.parametrize("content", [b"x = 1\0\n", b"\x7fELF\0\0", codecs.BOM_UTF16_LE + b"a\0\0\0"])
def test_what_has_a_nul_is_binary(content):
    assert read_content(content, "python") == BINARY


@pytest.mark.parametrize("content", [b" \n\t\n", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\r\n"])
def test_blank_files_are_empty(content):
    assert read_content(content, "python") == EMPTY


@pytest.mark.parametrize("content", [b"a\r\nb\r\n", b"a\rb\r", b"a\r\nb\n", b"a\nb\n"])
def test_every_line_break_becomes_one(content):
    assert read_content(content, "python").text == "a\nb\n"


def test_tabs_and_form_feeds_stay():
    assert read_content(b"if x:\n\ty\f\n", "python").text == "if x:\n\ty\f\n"


@pytest.mark.parametrize(
    "head",
    [
        "// Code generated by protoc-gen-go. DO NOT EDIT.",
        "# @generated by a tool",
        "/**\n * @generated SignedSource<<0>>\n */",
        "# Generated by the protocol buffer compiler.  DO NOT EDIT!",
        "# -*- coding: utf-8 -*-\n# Generated by Django 4.2 on 2024-01-01",
        "# This file was automatically generated by SWIG",
        "/* Autogenerated by Thrift Compiler (0.9) */",
        "// Generated from Expr.g4 by ANTLR 4.9",
        '"""\nThis file is generated by build.py\n"""',
        "# This is an auto-generated file. Please do not modify it by hand.",
        "# parsetab.py\n_tabversion = '3.10'",
    ],
)
def test_generated_files_are_known_by_their_head(head):
    assert read_content(f"{head}\nx = 1\n".encode(), "python") == GENERATED


@pytest.mark.parametrize(
    "head",
    [
        '"""Read what was generated by gcov."""',
        "# Tests of generated code",
        '"""Functions that generate files automatically."""',
        "// Do not edit this list without asking",
        "# maintainer: someone@generated-mail.org",
        "x = 1\n" * 40 + "# @generated",
    ],
)
def test_others_are_not(head):
    assert isinstance(read_content(f"{head}\nx = 1\n".encode(), "python"), SourceText)


def test_a_file_of_long_lines_is_minified():
    packed = b"// Licence\n" + b"var a=1;" * 200 + b"\n"
    assert read_content(packed, "javascript") == MINIFIED
    mostly_short = b"let a = 1;\n" * 200 + b"var a=1;" * 100 + b"\n"
    assert isinstance(read_content(mostly_short, "javascript"), SourceText)


def test_one_line_of_ten_megabytes():
    line = b"x = '" + b"a" * 10_000_000 + b"'"
    assert read_content(line, "python") == MINIFIED
    assert read_content(line.replace(b"a", b"\xff"), "python") == MINIFIED


def test_files_of_equal_bytes_share_a_number():
    assert read_content(b"x = 1\n", "python").digest == read_content(b"x = 1\n", "ruby").digest
    assert read_content(b"x = 1\n", "python").digest != read_content(b"x = 2\n", "python").digest


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes(b"x = 1\r\n")
    found = read_source(path, "python", 100)
    assert (found.text, found.bytes) == ("x = 1\n", 7)


def test_what_happened_between_looking_and_reading_is_a_reason(tmp_path, monkeypatch):
    path = tmp_path / "a.py"
    assert read_source(path, "python", 100) == GONE
    path.write_bytes(b"x" * 101)
    assert read_source(path, "python", 100) == LARGE
    path.unlink()
    path.mkdir()
    assert read_source(path, "python", 100) == UNREADABLE

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(texts, "open_plain", refuse)
    assert read_source(path, "python", 100) == UNREADABLE


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes(b"x = 1\n")
    path.chmod(0)
    assert read_source(path, "python", 100) == UNREADABLE
