"""Which licence a text, a file's header or a package's metadata names, and whether a filter lets it pass.

Names are SPDX identifiers and expressions such as ``MIT`` or ``MIT OR Apache-2.0``. What is not recognised
with certainty is ``None``: no licence is guessed.

What this does not do: give legal advice, compare whole texts word by word, or open a file.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from codestrata.errors import SettingsError, shorten

LONGEST_EXPRESSION = 500
"""Longer expressions are not read: they come from strangers' files."""
HEADER_CHARACTERS = 4096
"""So far into a file its licence line is looked for."""
LICENSE_LINE = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]+)")
LINE_END = re.compile(r"\s*(\*/|-->|#}|%>|\?>|\"\"\"|''').*$")
DISTINCT = re.compile(r"[^0-9a-z]+")
WORD = re.compile(r"\(|\)|[^\s()]+")
LINKS = {"AND", "OR", "WITH"}

GNU_TITLES = (
    ("AGPL-3.0", "gnu affero general public license version 3 19 november 2007"),
    ("LGPL-3.0", "gnu lesser general public license version 3 29 june 2007"),
    ("LGPL-2.1", "gnu lesser general public license version 2 1 february 1999"),
    ("LGPL-2.0", "gnu library general public license version 2 june 1991"),
    ("GPL-3.0", "gnu general public license version 3 29 june 2007"),
    ("GPL-2.0", "gnu general public license version 2 june 1991"),
)
"""How the texts of the GNU licences begin; the first that is found in a text is the one."""
GNU_NOTICE = re.compile(
    r"gnu (affero general|lesser general|library general|general) public license"
    r"(?: \w+){0,14}? (?:either )?version (2 1|2|3) (?:\d )?of the license"
)
"""How a notice grants one of them: "the terms of the ... as published by ..., either version 3 of"."""
GNU_SHORT = {"affero general": "AGPL", "lesser general": "LGPL", "library general": "LGPL", "general": "GPL"}
OR_LATER = "any later version"

FINGERPRINTS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("Apache-2.0", ("apache license version 2 0 january 2004",), ()),
    ("Apache-2.0", ("licensed under the apache license version 2 0",), ()),
    ("MPL-2.0", ("mozilla public license version 2 0",), ()),
    ("MPL-2.0", ("subject to the terms of the mozilla public license v 2 0",), ()),
    ("EPL-2.0", ("eclipse public license v 2 0",), ()),
    ("EPL-1.0", ("eclipse public license v 1 0",), ()),
    ("BSL-1.0", ("boost software license version 1 0",), ()),
    ("Artistic-2.0", ("the artistic license 2 0",), ()),
    ("BlueOak-1.0.0", ("blue oak model license version 1 0 0",), ()),
    ("CC0-1.0", ("cc0 1 0 universal",), ()),
    ("CC-BY-4.0", ("creative commons attribution 4 0 international",), ()),
    ("CC-BY-SA-4.0", ("creative commons attribution sharealike 4 0 international",), ()),
    ("Unlicense", ("free and unencumbered software released into the public domain",), ()),
    ("WTFPL", ("do what the fuck you want to public license", "you just do what the fuck you want to"), ()),
    ("Python-2.0", ("python software foundation license version 2", "beopen python"), ()),
    ("PSF-2.0", ("python software foundation license version 2",), ("beopen python",)),
    (
        "Zlib",
        (
            "in no event will the authors be held liable",
            "altered source versions must be plainly marked as such",
        ),
        ("libpng", "png reference library"),
    ),
    (
        "MIT",
        (
            "permission is hereby granted free of charge to any person obtaining a copy of this software and"
            " associated documentation files",
            "to deal in the software without restriction",
            "this permission notice shall be included in all copies or substantial portions of the software",
        ),
        ("except as contained in this notice the name", "used for good not evil", "must be clearly credited"),
    ),
    (
        "MIT-0",
        ("free of charge to any person obtaining a copy of this software", "without restriction including"),
        ("permission notice shall be included", "subject to the following conditions", "redistributions"),
    ),
    (
        "ISC",
        (
            "distribute this software for any purpose with or without fee is hereby granted provided that the"
            " above copyright notice and this permission notice appear in all copies",
        ),
        (),
    ),
    (
        "0BSD",
        ("distribute this software for any purpose with or without fee is hereby granted",),
        ("hereby granted provided",),
    ),
)
"""Identifier, phrases that a text holds (lower case, words and digits only), and phrases that it must not."""

BSD_START = (
    "redistribution and use in source and binary forms with or without modification are permitted provided"
)
BSD_BINARY = "redistributions in binary form must reproduce"
BSD_NAME = re.compile(r"(neither|nor) the names? |may not be used to endorse|may be used to endorse")
BSD_ADVERTISING = "all advertising materials mentioning"
BSD_CLEAR = "no express or implied licenses to any party s patent rights"

SPOKEN = {
    "mit license": "MIT",
    "the mit license": "MIT",
    "the mit license mit": "MIT",
    "mit licence": "MIT",
    "expat license": "MIT",
    "apache 2": "Apache-2.0",
    "apache 2 0": "Apache-2.0",
    "apache v2": "Apache-2.0",
    "apache2": "Apache-2.0",
    "apache 2 0 license": "Apache-2.0",
    "apache license 2 0": "Apache-2.0",
    "apache license version 2 0": "Apache-2.0",
    "apache license v2 0": "Apache-2.0",
    "apache software license 2 0": "Apache-2.0",
    "apache software license version 2 0": "Apache-2.0",
    "bsd 2 clause": "BSD-2-Clause",
    "bsd 2 clause license": "BSD-2-Clause",
    "simplified bsd license": "BSD-2-Clause",
    "bsd2": "BSD-2-Clause",
    "bsd3": "BSD-3-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "bsd 3 clause license": "BSD-3-Clause",
    "3 clause bsd": "BSD-3-Clause",
    "3 clause bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license iscl": "ISC",
    "mozilla public license 2 0": "MPL-2.0",
    "mozilla public license 2 0 mpl 2 0": "MPL-2.0",
    "mpl 2": "MPL-2.0",
    "psf": "PSF-2.0",
    "psfl": "PSF-2.0",
    "psf license": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "gplv2": "GPL-2.0-only",
    "gpl v2": "GPL-2.0-only",
    "gnu general public license v2 gplv2": "GPL-2.0-only",
    "gplv2+": "GPL-2.0-or-later",
    "gnu general public license v2 or later gplv2+": "GPL-2.0-or-later",
    "gplv3": "GPL-3.0-only",
    "gpl v3": "GPL-3.0-only",
    "gnu general public license v3 gplv3": "GPL-3.0-only",
    "gplv3+": "GPL-3.0-or-later",
    "gnu general public license v3 or later gplv3+": "GPL-3.0-or-later",
    "lgplv3": "LGPL-3.0-only",
    "gnu lesser general public license v3 lgplv3": "LGPL-3.0-only",
    "lgplv3+": "LGPL-3.0-or-later",
    "gnu lesser general public license v3 or later lgplv3+": "LGPL-3.0-or-later",
    "gnu lesser general public license v2 lgplv2": "LGPL-2.0-only",
    "gnu lesser general public license v2 or later lgplv2+": "LGPL-2.0-or-later",
    "gnu affero general public license v3": "AGPL-3.0-only",
    "gnu affero general public license v3 agplv3": "AGPL-3.0-only",
    "gnu affero general public license v3 or later agplv3+": "AGPL-3.0-or-later",
    "the unlicense": "Unlicense",
    "the unlicense unlicense": "Unlicense",
    "zlib license": "Zlib",
    "boost software license 1 0 bsl 1 0": "BSL-1.0",
    "eclipse public license 2 0 epl 2 0": "EPL-2.0",
    "eclipse public license 1 0 epl 1 0": "EPL-1.0",
    "european union public licence 1 2 eupl 1 2": "EUPL-1.2",
    "cc0 1 0 universal cc0 1 0 public domain dedication": "CC0-1.0",
    "artistic license 2 0": "Artistic-2.0",
}
"""What packages' metadata call a licence -> identifier; names that fit several licences, such as "BSD", are
not here, and "Apache Software License" does not say which version."""

FREQUENT = (
    *(
        "0BSD",
        "AGPL-3.0-only",
        "AGPL-3.0-or-later",
        "Apache-2.0",
        "Artistic-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
    ),
    *("BlueOak-1.0.0", "BSL-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "EPL-1.0", "EPL-2.0", "EUPL-1.2"),
    *("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "ISC", "LGPL-2.0-only"),
    *("LGPL-2.0-or-later", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT"),
    *("MIT-0", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "WTFPL", "Zlib"),
)
"""What a mistyped identifier is compared with."""


@lru_cache(maxsize=4096)
def normalize_license(expression: str) -> str | None:
    """An SPDX expression in its canonical spelling, or ``None`` where it is none.

    Deprecated names of the GNU licences become today's: ``GPL-2.0`` and ``GPL-2.0+`` are ``GPL-2.0-only`` and
    ``GPL-2.0-or-later``.
    """
    if len(expression) > LONGEST_EXPRESSION:
        return None
    try:
        canonical = canonicalize_license_expression(expression.strip())
    except InvalidLicenseExpression:
        return None
    return WORD.sub(lambda word: rename_deprecated(word.group()), canonical)


def rename_deprecated(identifier: str) -> str:
    """Today's identifier of a GNU licence; others as they are."""
    found = re.fullmatch(r"((?:A|L)?GPL-\d\.\d)(\+?)", identifier)
    if found is None:
        return identifier
    return found.group(1) + ("-or-later" if found.group(2) else "-only")


def check_licenses(names: Sequence[str], setting: str) -> tuple[str, ...]:
    """The names as canonical SPDX identifiers; ``setting`` is what they were given as, for errors.

    Raises: SettingsError: one is no SPDX identifier, or an expression of several.
    """
    checked = []
    for name in names:
        canonical = normalize_license(name)
        if canonical is None:
            near = find_nearest(name)
            hint = f" Did you mean {near!r}?" if near else ""
            raise SettingsError(
                f"{setting} names {shorten(name)}, which is no SPDX identifier.{hint} Known are those of"
                f" https://spdx.org/licenses, such as {', '.join(('MIT', 'Apache-2.0', 'BSD-3-Clause'))}."
            )
        if {"AND", "OR"} & set(canonical.split()):
            raise SettingsError(
                f"{setting} names {shorten(name)}: give the licences one by one; of a record under"
                " 'A OR B' one of them is enough, of one under 'A AND B' both are needed."
            )
        checked.append(canonical)
    return tuple(checked)


def find_nearest(name: str) -> str | None:
    """The identifier that was probably meant."""
    spoken = name_license(name)
    if spoken is not None:
        return spoken
    lowered = {identifier.lower(): identifier for identifier in FREQUENT}
    near = get_close_matches(name.strip().lower(), lowered, n=1, cutoff=0.5)
    return lowered[near[0]] if near else None


def allows(license: str | None, allowed: Sequence[str]) -> bool:
    """Whether code under ``license``, an SPDX expression, passes a filter that allows these identifiers.

    An empty filter lets everything pass; another one no unknown licence. Of ``A OR B`` one must
    be allowed, of ``A AND B`` both. ``A WITH exception`` passes where ``A`` does, as it only permits more.
    """
    if not allowed:
        return True
    if license is None:
        return False
    return judge(license, tuple(allowed))


@lru_cache(maxsize=4096)
def judge(license: str, allowed: tuple[str, ...]) -> bool:
    """``allows``, once per licence and filter."""
    expression = normalize_license(license)
    if expression is None:
        return False
    names = {(normalize_license(name) or name).lower() for name in allowed}
    return judge_words(WORD.findall(expression), names)


def judge_words(words: list[str], names: set[str]) -> bool:
    """Whether an expression of these words holds, where the identifiers of ``names`` do.

    A stack of open parentheses, each a sum of products: AND binds closer than OR.
    """
    sums: list[bool] = [False]
    products: list[bool] = [True]
    place = 0
    while place < len(words):
        word = words[place]
        if word == "(":
            sums.append(False)
            products.append(True)
        elif word == ")":
            inner = (sums.pop(), products.pop())
            products[-1] = products[-1] and any(inner)
        elif word == "OR":
            sums[-1] = sums[-1] or products[-1]
            products[-1] = True
        elif word != "AND":
            excepted = words[place + 1 : place + 2] == ["WITH"]
            whole = " ".join(words[place : place + 3]) if excepted else word
            products[-1] = products[-1] and (word.lower() in names or whole.lower() in names)
            place += 2 if excepted else 0
        place += 1
    return sums[0] or products[0]


def read_license_line(text: str) -> tuple[bool, str | None]:
    """Whether the head of a file has an SPDX-License-Identifier line, and the expression of the first one.

    A line that names no SPDX licence gives ``(True, None)``: the file says that it is under something else.
    """
    found = LICENSE_LINE.search(text, 0, HEADER_CHARACTERS)
    if found is None:
        return False, None
    return True, normalize_license(LINE_END.sub("", found.group(1)).strip())


def name_license(words: str) -> str | None:
    """The SPDX expression that a package's metadata names: an expression, or a name that fits one licence."""
    expression = normalize_license(words)
    if expression is not None:
        return expression
    if len(words) > LONGEST_EXPRESSION:
        return None
    plain = " ".join(re.sub(r"[^0-9a-z+]+", " ", words.lower()).split())
    return SPOKEN.get(plain)


def recognize_license(text: str) -> str | None:
    """The SPDX identifier of a licence's text, by phrases that only it has; ``None`` for none or several.

    The text of a GNU licence alone, with no notice before it that allows later versions, is ``-only``.
    """
    plain = DISTINCT.sub(" ", text.lower()).strip()
    found = {
        identifier
        for identifier, needed, excluded in FINGERPRINTS
        if all(phrase in plain for phrase in needed) and not any(phrase in plain for phrase in excluded)
    }
    gnu = recognize_gnu(plain)
    if gnu is not None:
        found.add(gnu)
    bsd = recognize_bsd(plain)
    if bsd is not None:
        found.add(bsd)
    return found.pop() if len(found) == 1 else None


def recognize_gnu(plain: str) -> str | None:
    """The GNU licence whose whole text, or whose notice, a text begins with."""
    places = [(plain.find(title), name) for name, title in GNU_TITLES]
    starts = [(place, order, name) for order, (place, name) in enumerate(places) if place >= 0]
    notice = GNU_NOTICE.search(plain)
    if starts:
        place, _, name = min(starts)
        return f"{name}-or-later" if OR_LATER in plain[:place] else f"{name}-only"
    if notice is None:
        return None
    kind, version = GNU_SHORT[notice.group(1)], notice.group(2).replace(" ", ".")
    name = f"{kind}-{version if '.' in version else version + '.0'}"
    after = plain[notice.end() : notice.end() + 60]
    return f"{name}-or-later" if OR_LATER in after else f"{name}-only"


def recognize_bsd(plain: str) -> str | None:
    """Which of the licences of Berkeley's kind a text is: they share all but some clauses."""
    if BSD_START not in plain or BSD_BINARY not in plain:
        return None
    if BSD_ADVERTISING in plain:
        return "BSD-4-Clause"
    if BSD_NAME.search(plain):
        return "BSD-3-Clause-Clear" if BSD_CLEAR in plain else "BSD-3-Clause"
    return "BSD-2-Clause"
