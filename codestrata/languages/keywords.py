"""The keywords of each language, which CodeBLEU weighs five times as much as other words.

What this does not do: correct the published lists. They are data of the metric, faults included: JavaScript
has ``True`` for ``true``, and no ``async``; Go has ``true`` but no ``nil``; Python's ``match`` and ``type``
count wherever they stand. The published metric does not know Lua and TypeScript: these lists are ours.
"""

KEYWORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "c_sharp": """
            abstract add alias as ascending async await base bool break by byte case catch char checked
            class const continue decimal default delegate descending do double dynamic else enum equals
            event explicit extern false finally fixed float for foreach from get global goto group if
            implicit in int interface internal into is join let lock long nameof namespace new notnull null
            object on operator orderby out override params partial private protected public readonly ref
            remove return sbyte sealed select set short sizeof stackalloc static string struct switch this
            throw true try typeof uint ulong unchecked unmanaged unsafe ushort using value var virtual void
            volatile when where while yield
        """,
        "go": """
            break case chan const continue default defer else fallthrough false for func go goto if import
            interface map package range return select struct switch true type var
        """,
        "java": """
            abstract assert boolean break byte case catch char class const continue default do double else
            enum extends final finally float for goto if implements import instanceof int interface long
            native new package private protected public return short static strictfp super switch
            synchronized this throw throws transient try void volatile while
        """,
        "javascript": """
            True await break case catch class const continue debugger default delete do else enum export
            extends false finally for function if implements import in instanceof interface let new null
            package private protected public return static super switch this throw try typeof var void while
            with yield
        """,
        "lua": """
            and break do else elseif end false for function goto if in local nil not or repeat return then
            true until while
        """,
        "php": """
            __halt_compiler abstract and array as break callable case catch class clone const continue
            declare default die do echo else elseif empty enddeclare endfor endforeach endif endswitch
            endwhile eval exit extends final for foreach function global goto if implements include
            include_once instanceof insteadof interface isset list namespace new or print private protected
            public require require_once return static switch throw trait try unset use var while xor
        """,
        "python": """
            False None True and as assert async await break case class continue def del elif else except
            finally for from global if import in is lambda match nonlocal not or pass raise return try type
            while with yield
        """,
        "ruby": """
            BEGIN END __ENCODING__ __FILE__ __LINE__ alias and begin break case class def defined? do else
            elsif end ensure false for if in module next nil not or redo rescue retry return self super then
            true undef unless until when while yield
        """,
        "typescript": """
            abstract any as asserts async await boolean break case catch class const constructor continue
            debugger declare default delete do else enum export extends false finally for from function get
            if implements import in infer instanceof interface is keyof let module namespace never new null
            number object of override package private protected public readonly require return satisfies set
            static string super switch symbol this throw true try type typeof undefined unique unknown var
            void while with yield
        """,
    }.items()
}
