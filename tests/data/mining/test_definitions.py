"""The functions of whole files: which they are, their names, their places, and what documents them."""

import time
from itertools import count
from textwrap import dedent

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codestrata.data.mining import definitions
from codestrata.data.mining.definitions import (
    BROKEN,
    DEEP,
    MOST_AROUND,
    UNDOCUMENTED,
    extract,
)
from codestrata.data.mining.grammars import RULES
from codestrata.errors import SettingsError, SlowParseError


def mine(language, source, **options):
    """(kind, qualified name, documentation) of every function of a source without its common indentation."""
    extraction = extract(language, dedent(source), **options)
    assert not extraction.has_errors
    return [(found.kind, found.qualified_name, found.docstring) for found in extraction.functions]


def test_python_files():
    source = '''
        """Of the module."""
        import os

        class Outer(Base):
            """Of the class."""

            def __init__(self):
                """Begin."""

            @property
            def size(self):  # beside
                # before
                r"""How \\d large."""
                return 1

            class Inner:
                async def run(self): "Short."; return 1

        @decorated(1)
        def plain(x):
            """
            First.

                Indented.
            """
            def nested():
                u\'\'\'Inside.\'\'\'
            return nested

        if os.name == "nt":
            def chosen():
                "One " "and two."

        def bytes_are_none(): b"no"
        def formats_are_none(): f"no"
        def later_strings_are_none():
            pass
            """no"""
        '''
    assert mine("python", source) == [
        ("constructor", "Outer.__init__", "Begin."),
        ("method", "Outer.size", "How \\d large."),
        ("method", "Outer.Inner.run", "Short."),
        ("function", "plain", "First.\n\n        Indented."),
        ("function", "nested", "Inside."),
        ("function", "chosen", "One and two."),
        ("function", "bytes_are_none", ""),
        ("function", "formats_are_none", ""),
        ("function", "later_strings_are_none", ""),
    ]


def test_a_python_function_begins_at_def_and_its_tokens_leave_the_docstring_out():
    source = '@cached\ndef f(x):  # beside\n    """Give it.\n\n    And more."""\n    return x\n'
    (found,) = extract("python", source).functions
    assert found.code == source[len("@cached\n") : -1]
    assert found.code_tokens == ("def", "f", "(", "x", ")", ":", "# beside", "return", "x")
    assert (found.docstring, found.summary) == ("Give it.\n\n    And more.", "Give it.")
    assert found.docstring_tokens == ("Give", "it", ".")
    assert (found.name, found.start_line, found.end_line) == ("f", 2, 6)


def test_python_2_is_read():
    source = '''
        def old(a, (b, c)):
            """Say it."""
            print "x" % a,
            print >>b, `c`, 0777, 10L
            exec "y" in c
            try:
                raise E, ur"message"
            except E, error:
                pass
            return a <> b
        '''
    assert mine("python", source) == [("function", "old", "Say it.")]


def test_javascript_files():
    source = """
        #!/usr/bin/env node
        'use strict';
        /** A constant. */
        export const arrow = (x) => { return x; };
        function plain() {} // behind it
        function after() {}
        /** A property. */
        // eslint-disable-next-line
        exports.property = function () {};
        /** On a prototype. */
        Some.prototype.method = function named() {};
        module.exports = {
          /** In a literal. */
          short(a) { return a; },
          // One line,
          // and another.
          'quoted-name': async function () {},
          [computed]: function () {},
        };
        /** Of the class. */
        export default class Some extends Other {
          /** Begin. */
          constructor() { super(); }
          /**
           * Static.
           */

          static async st() {}
          /** A field. */
          handle = () => {};
        }
        /** By default. */
        export default function () {}
        /** Yields. */
        export function* many() {}
        /** Chained. */
        exports.a = exports.b = function () {};
        var first = 1,
            /** The second. */
            second = function () {};
        const Named = class { /** Within. */ m() {} };
        """
    assert mine("javascript", source) == [
        ("function", "arrow", "A constant."),
        ("function", "plain", ""),
        ("function", "after", ""),
        ("function", "property", "A property."),
        ("function", "named", "On a prototype."),
        ("method", "short", "In a literal."),
        ("function", "quoted-name", "One line,\nand another."),
        ("function", "", ""),
        ("constructor", "Some.constructor", "Begin."),
        ("method", "Some.st", "Static."),
        ("method", "Some.handle", "A field."),
        ("function", "", "By default."),
        ("function", "many", "Yields."),
        ("function", "b", "Chained."),
        ("function", "second", "The second."),
        ("method", "Named.m", "Within."),
    ]


def test_typescript_files():
    source = """
        /** Overloaded. */
        export function over(a: string): void;
        export function over(a: number): void;
        export function over(a: any) {}
        export abstract class Some<T> implements Other {
          /** Has no body. */
          abstract none(): void;
          /** With types. */
          @decorated() public static typed(x: number = 1): Map<string, T> { return null as any; }
          /** Decorated. */
          @Input()
          shown(): void {}
          /** A field. */
          private readonly field = async (x: T): Promise<void> => {};
        }
        namespace Space { /** In it. */ export function inner() {} }
        /** Declared only. */
        declare function outside(): void;
        function undocumented() {}
        """
    assert mine("typescript", source) == [
        ("function", "over", "Overloaded."),
        ("method", "Some.typed", "With types."),
        ("method", "Some.shown", "Decorated."),
        ("method", "Some.field", "A field."),
        ("function", "Space.inner", "In it."),
        ("function", "undocumented", ""),
    ]
    (found,) = extract("typescript", "function f<T>(x: T | null): `a${string}` { return x!; }").functions
    assert found.code_tokens[:12] == ("function", "f", "<", "T", ">", "(", "x", ":", "T", "|", "null", ")")


def test_typescript_with_elements_of_jsx_is_read():
    assert mine("typescript", "/** Shown. */\nconst Shown = () => <b>{x}</b>;") == [
        ("function", "Shown", "Shown.")
    ]


def test_java_files():
    source = """
        /*
         * Copyright (C) 2010 Somebody
         */
        package some;
        /** Of the class. */
        public class Outer<T> {
          /** Begin. */
          public Outer() {}
          /**
           * Annotated.
           *   Further in.
           */
          @Override
          public <X> int annotated(int a) throws E { return 1; }
          /** Has no body. */
          abstract int none();
          static class Inner { /** Within. */ void q() {} }
          interface I { /** By default. */ default void d() {} void e(); }
          enum E { A; /** Of an enum. */ void w() {} }
          record R(int x) { /** Compact. */ R {} }
          // One line,
          // and another.
          void lines() {}
        }
        """
    assert mine("java", source) == [
        ("constructor", "Outer.Outer", "Begin."),
        ("method", "Outer.annotated", "Annotated.\n  Further in."),
        ("method", "Outer.Inner.q", "Within."),
        ("method", "Outer.I.d", "By default."),
        ("method", "Outer.E.w", "Of an enum."),
        ("constructor", "Outer.R.R", "Compact."),
        ("method", "Outer.lines", "One line,\nand another."),
    ]


def test_go_files():
    source = """
        // Copyright 2010 Somebody. All rights reserved.

        // Package some is one.
        package some

        // Free does it.
        //
        //\tcode
        func Free[T any](x T) {}

        // apart

        func None() {}

        // Size tells it.
        func (s *S[T]) Size() int { return 1 }

        //go:noinline
        func Directed() {}

        /*
        Block does it.
        */
        func Block() {}

        func outside(x int) int
        """
    assert mine("go", source) == [
        ("function", "Free", "// Free does it.\n//\n//\tcode"),
        ("function", "None", ""),
        ("method", "Size", "// Size tells it."),
        ("function", "Directed", ""),
        ("function", "Block", "/*\nBlock does it.\n*/"),
    ]
    first = extract("go", dedent(source)).functions[0]
    assert (first.summary, first.docstring_tokens) == ("Free does it.", ("Free", "does", "it", ".", "code"))


def test_php_files():
    source = """
        <b>before</b><?php
        /**
         * Of the file.
         * @file
         */
        namespace A\\B;
        /** Free. */
        function free() {}
        /** Of the class. */
        abstract class C extends D {
          /** Begin. */
          public function __construct(private int $x) {}
          /** Attributed. */
          #[Pure]
          public static function s(): ?int { return 1; }
          abstract function none();
          // A reference.
          final protected function &ref() { return $this->x; }
          # Mixed with HTML.
          function mixed() { ?> <b> <?php }
        }
        trait T { /** Of a trait. */ function u() {} }
        interface I { /** Has no body. */ function v(); }
        ?>
        <b>after</b>
        """
    assert mine("php", source) == [
        ("function", "free", "Free."),
        ("constructor", "C.__construct", "Begin."),
        ("method", "C.s", "Attributed."),
        ("method", "C.ref", "A reference."),
        ("method", "C.mixed", "Mixed with HTML."),
        ("method", "T.u", "Of a trait."),
    ]


def test_ruby_files():
    source = """
        # frozen_string_literal: true

        # Of the module.
        module A::B
          class C < D
            # Begin.
            def initialize; end
            # Of the class.
            def self.make(x)
              x
            end
            class << self
              # Single.
              def single; end
            end
            # Hidden.
            private def hidden; end
            # Asks.
            #   @param x
            def asks?(x) = x

            # apart

            def none; end
            attr_reader :x # behind
            def nor; end
            # Equal.
            def ==(other); end
            # rubocop:disable Some/Rule
            def nor_this; end
          end
        end
        # On top.
        def top; end
        """
    assert mine("ruby", source) == [
        ("constructor", "A::B.C.initialize", "Begin."),
        ("method", "A::B.C.make", "Of the class."),
        ("method", "A::B.C.single", "Single."),
        ("method", "A::B.C.hidden", "Hidden."),
        ("method", "A::B.C.asks?", "Asks.\n  @param x"),
        ("method", "A::B.C.none", ""),
        ("method", "A::B.C.nor", ""),
        ("method", "A::B.C.==", "Equal."),
        ("method", "A::B.C.nor_this", ""),
        ("function", "top", "On top."),
    ]


FRAGMENTS = {
    "a method of javascript": ("javascript", "name(a) { return a; }", "method", "name"),
    "a getter of javascript": ("javascript", "get size() { return 1; }", "method", "size"),
    "a function without a name": ("javascript", "function (args) { return args; }", "function", ""),
    "a method of typescript": (
        "typescript",
        "public name(a: number): number { return a; }",
        "method",
        "name",
    ),
    "a method of java": ("java", "@Override\n  public int name() throws E { return 1; }", "method", "name"),
    "a constructor of java": ("java", "public Some(int x) { this.x = x; }", "constructor", "Some"),
    "a method of php": ("php", "public static function name($a) { return $a; }", "method", "name"),
    "a function of php": ("php", "function name($a) { return $a; }", "function", "name"),
    "a method of php with HTML": ("php", "private function name() { ?>\n<b><?php }", "method", "name"),
}


@pytest.mark.parametrize("name", sorted(FRAGMENTS))
def test_fragments_are_read_as_they_stand(name):
    language, source, kind, expected = FRAGMENTS[name]
    extraction = extract(language, source)
    assert not extraction.has_errors
    (found,) = extraction.functions
    assert (found.code, found.kind, found.qualified_name) == (source, kind, expected)
    assert (found.start_line, found.end_line) == (1, source.count("\n") + 1)
    documented = extract(language, f"/** What it is. */\n{source}").functions[0]
    assert (documented.docstring, documented.code) == ("What it is.", source)


def test_methods_of_php_may_stand_outside_a_class_in_a_file():
    source = "<?php\n/** Doc. */\nprivate function name() { return 1; }\n"
    assert mine("php", source) == [("method", "name", "Doc.")]
    (found,) = extract("php", source).functions
    assert (found.code, found.start_line) == ("private function name() { return 1; }", 3)


SMALL = {
    "go": "// Doc é.\nfunc f() {\n\tx := %s\n}",
    "java": "class A {\n/** Doc é. */\nvoid f() {\nx = %s;\n}\n}",
    "javascript": "/** Doc é. */\nfunction f() {\nreturn %s;\n}",
    "php": "<?php\n/** Doc é. */\nfunction f() {\n$x = %s;\n}",
    "python": 'def f():\n    """Doc é."""\n    x = %s',
    "ruby": "# Doc é.\ndef f\n x = %s\nend",
    "typescript": "/** Doc é. */\nfunction f() {\nreturn %s;\n}",
}


@pytest.mark.parametrize("language", sorted(SMALL))
def test_places_count_characters_and_lines_whatever_ends_them(language):
    source = "\ufeff" + (SMALL[language] % '"é" + "漢"').replace("\n", "\r\n") + "\r\n"
    extraction = extract(language, source)
    (found,) = extraction.functions
    assert not extraction.has_errors
    assert found.code in source
    assert source.count("\n", 0, source.index(found.code)) + 1 == found.start_line
    assert found.end_line == found.start_line + found.code.count("\n")
    assert ("// " if language == "go" else "") + "Doc é." == found.docstring
    assert '"漢"' in "".join(found.code_tokens) or language == "go"  # whose strings have no content there


@pytest.mark.parametrize("language", sorted(SMALL))
def test_functions_beside_a_broken_one_are_given(language):
    good = SMALL[language].removeprefix("<?php") % 1
    source = (
        "<?php" if language == "php" else ""
    ) + f"{good}\n{good}\n{SMALL[language].removeprefix('<?php') % '@@ )('}"
    extraction = extract(language, source)
    assert extraction.has_errors
    assert [found.docstring.removeprefix("// ") for found in extraction.functions] == ["Doc é.", "Doc é."]


@pytest.mark.parametrize("language", sorted(SMALL))
def test_deep_nesting_is_no_error(language):
    depth = 5000
    (found,) = extract(language, SMALL[language] % ("(" * depth + "1" + ")" * depth)).functions
    assert found.code_tokens.count("(") >= depth


def test_deeply_nested_functions_take_no_time():
    start = time.monotonic()
    extraction = extract("javascript", "function f(){" * 3000 + "}" * 3000, documented_only=True)
    assert (extraction.functions, extraction.left_out) == ((), {UNDOCUMENTED: 3000})
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("part", ["/** Doc. */\nfunction f() {\n", "s = class A { /** Doc. */ m() {}\n"])
def test_what_is_nested_too_deeply_is_counted(part):
    nested = part * 300 + "}" * 300
    extraction = extract("javascript", nested + "\n/** Doc. */\nfunction g() {}", documented_only=True)
    given = len(extraction.functions)
    assert MOST_AROUND + 1 <= given <= MOST_AROUND + 2
    assert extraction.left_out == {DEEP: 301 - given}
    assert extraction.functions[-1].name == "g"


def test_other_work_on_the_machine_decides_nothing(monkeypatch):
    monkeypatch.setattr(time, "monotonic", count(step=1000).__next__)
    assert mine("typescript", "/** Shown. */\nconst Shown = () => <b>{x}</b>;") == [
        ("function", "Shown", "Shown.")
    ]


def test_the_time_is_that_of_all(monkeypatch):
    monkeypatch.setattr(definitions, "parse_in_time", lambda parser, content, _: parser.parse(content))
    with pytest.raises(SlowParseError, match="functions take longer"):
        extract("javascript", "function f() {}", most_seconds=0)


def test_wrapped_functions_are_what_they_are_put_into():
    source = """
        /** Shown. */
        export const Row = React.memo((props) => { return 1; });
        /** Twice. */
        const Two = React.memo(React.forwardRef((p, r) => { return 1; }));
        /** Saved. */
        exports.save = debounce(async () => { return 1; }, 300);
        const more = { /** Called. */ go: _.throttle(function () { return 1; }, 10) };
        class A { /** Of a field. */ run = debounce(() => { return 1; }); }
        /** Not of a function. */
        const names = users.map((u) => { return 1; });
        /** Not of one either. */
        const timer = setTimeout(() => { return 1; });
        """
    expected = [
        ("function", "Row", "Shown."),
        ("function", "Two", "Twice."),
        ("function", "save", "Saved."),
        ("function", "go", "Called."),
        ("method", "A.run", "Of a field."),
        ("function", "", ""),
        ("function", "", ""),
    ]
    assert mine("javascript", source) == expected == mine("typescript", source)


@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_decorators_are_no_part_of_a_method_and_may_stand_before_its_comment(language):
    source = "class A {\n@x()\n/** After. */\nm() { return 1; }\n/** Before. */\n@x @y\nasync n() {}\n}"
    first, second = extract(language, source).functions
    assert (first.docstring, first.code, first.start_line) == ("After.", "m() { return 1; }", 4)
    assert (second.docstring, second.code, second.start_line) == ("Before.", "async n() {}", 7)
    assert second.code_tokens == ("async", "n", "(", ")", "{", "}")


@pytest.mark.parametrize("name", sorted(FRAGMENTS))
def test_fragments_are_read_in_files_too(name):
    language, source, kind, expected = FRAGMENTS[name]
    suffix = {"javascript": ".js", "typescript": ".ts", "java": ".java", "php": ".php"}[language]
    (found,) = extract(language, source, suffix=suffix).functions
    assert (found.code, found.kind, found.qualified_name) == (source, kind, expected)


def test_assertions_and_elements_of_typescript_are_told_by_the_suffix():
    assert not extract("typescript", "const f = () => <T>x;", suffix=".ts").has_errors
    assert not extract("typescript", "const f = () => <b>Don't</b>;", suffix=".tsx").has_errors


def test_only_documented_functions_where_asked_for():
    source = "/** Doc. */\nfunction a() {}\nfunction b() {}\nfunction c() {}\n"
    whole, part = extract("javascript", source), extract("javascript", source, documented_only=True)
    assert part.functions == whole.functions[:1]
    assert (whole.left_out, part.left_out) == ({}, {UNDOCUMENTED: 2})


def test_a_source_that_takes_too_long_is_an_error():
    with pytest.raises(SlowParseError, match="takes longer"):
        extract("javascript", "[" * 100_000 + "]" * 100_000, most_seconds=0.05)


def test_an_unknown_language_is_refused():
    with pytest.raises(SettingsError, match="Did you mean 'python'"):
        extract("pyhton", "")


@pytest.mark.parametrize("language", sorted(RULES))
@pytest.mark.parametrize(
    "source", ["", " \n", "\0", "/*", "#", '"""', "`", "<?php", "\ufeff", "\r", "é" * 50]
)
def test_no_text_is_an_error(language, source):
    assert extract(language, source).functions == ()


PIECES = [
    "def f(): ",
    '"""d"""',
    "\n",
    "    ",
    "/** d */",
    "// d",
    "# d",
    "function f(a) {",
    "}",
    "{",
    "(",
    ")",
    "é",
]
PIECES += [
    "class A {",
    "class A\n",
    "end",
    "\r\n",
    "\t",
    "<?php",
    "?>",
    "func f() {",
    "'",
    '"',
    "`",
    "=>",
    ";",
    "\0",
]
PIECES += ["void f() {", "@x", "x = ", "x", " ", "export ", "=begin", "=end", "<<A", "*", "&", ":", ",", "\\"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(RULES)), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example("javascript", "/** d */function f(a) {}\r\n/** d */x = function f(a) {}")
@example("php", "é ?> é <?php /** d */ function f(a) {} ?>")
@example("javascript", "}function f(a) {\r\nend")
def test_any_text_gives_functions_that_are_slices_of_it(language, source):
    extraction = extract(language, source)
    documented = extract(language, source, documented_only=True)
    assert documented.functions == tuple(found for found in extraction.functions if found.docstring)
    assert documented.left_out[UNDOCUMENTED] == len(extraction.functions) - len(documented.functions)
    assert documented.left_out[BROKEN] == extraction.left_out[BROKEN]
    text = source.removeprefix("\ufeff")
    for found in extraction.functions:
        place = text.find(found.code)
        while text.count("\n", 0, place) + 1 != found.start_line:
            place = text.find(found.code, place + 1)
            assert place >= 0
        assert found.end_line == found.start_line + found.code.count("\n")
        assert all(token in found.code or not token.strip() for token in found.code_tokens)
        assert found.qualified_name.endswith(found.name)
