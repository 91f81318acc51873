import itertools
from pathlib import Path

import pytest

from codestrata.data.licenses import (
    FREQUENT,
    SPOKEN,
    allows,
    check_licenses,
    name_license,
    normalize_license,
    read_license_line,
    recognize_license,
)
from codestrata.errors import SettingsError

MIT = """MIT License

Copyright (c) 2024 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.
"""
MIT_0 = MIT.split(", subject to")[0] + ".\n"
BSD = """Redistribution and use in source and binary forms, with or without modification, are permitted
provided that the following conditions are met:
1. Redistributions of source code must retain the above copyright notice.
2. Redistributions in binary form must reproduce the above copyright notice.
"""
BSD_NAMES = "3. Neither the name of the copyright holder nor the names of its contributors may be used.\n"
BSD_ADVERTISING = "3. All advertising materials mentioning features of this software must say so.\n"
ISC = """Permission to use, copy, modify, and/or distribute this software for any purpose with or without
fee is hereby granted, provided that the above copyright notice and this permission notice appear in all
copies.
"""
GPL_3 = (
    "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n\nto apply: or (at your option) any later version"
)
GPL_NOTICE = """This program is free software: you can redistribute it and/or modify it under the terms of the
GNU General Public License as published by the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.
"""
LGPL_NOTICE = """modify it under the terms of the GNU Lesser General Public License as published by the Free
Software Foundation; version 2.1 of the License."""
TEXTS = {
    "MIT": MIT,
    "MIT-0": MIT_0,
    "BSD-2-Clause": BSD,
    "BSD-3-Clause": BSD + BSD_NAMES,
    "BSD-4-Clause": BSD + BSD_ADVERTISING + BSD_NAMES,
    "ISC": ISC,
    "0BSD": ISC.split(", provided")[0],
    "Apache-2.0": "Apache License\n   Version 2.0, January 2004\n  http://www.apache.org/licenses/",
    "MPL-2.0": "Mozilla Public License Version 2.0\n== GNU General Public License, Version 2.0",
    "GPL-2.0-only": "GNU GENERAL PUBLIC LICENSE Version 2, June 1991",
    "GPL-3.0-only": GPL_3,
    "GPL-3.0-or-later": GPL_NOTICE,
    "LGPL-2.1-only": LGPL_NOTICE,
    "LGPL-3.0-only": "GNU LESSER GENERAL PUBLIC LICENSE Version 3, 29 June 2007",
    "AGPL-3.0-only": "GNU AFFERO GENERAL PUBLIC LICENSE Version 3, 19 November 2007",
    "Unlicense": "This is free and unencumbered software released into the public domain.",
    "CC0-1.0": "Creative Commons Legal Code\nCC0 1.0 Universal",
    "PSF-2.0": "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
    "Python-2.0": "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2 ... BEOPEN PYTHON OPEN SOURCE LICENSE",
    "Zlib": (
        "In no event will the authors be held liable. Altered source versions must be plainly marked as such"
    ),
    "BSL-1.0": "Boost Software License - Version 1.0 - August 17th, 2003",
    "Artistic-2.0": "The Artistic License 2.0",
    "EPL-2.0": "Eclipse Public License - v 2.0",
}


@pytest.mark.parametrize("identifier", TEXTS)
def test_a_text_is_recognised_by_its_phrases(identifier):
    assert recognize_license(TEXTS[identifier]) == identifier


@pytest.mark.parametrize("identifier", TEXTS)
def test_line_breaks_case_and_comment_signs_do_not_matter(identifier):
    text = "\r\n * ".join(TEXTS[identifier].upper().replace("\n", " ").split(" "))
    assert recognize_license(text) == identifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "All rights reserved.",
        "Licensed under the MIT license or the Apache license, at your choice.",
        MIT + "\n\nor else:\n\n" + BSD,
        MIT.replace("any person", "any person but Bob"),
        MIT + "The Software shall be used for Good, not Evil.",
        BSD.replace("Redistributions in binary form", "Copies"),
        "The Artistic License: the intent of this document is to state the conditions",
    ],
)
def test_no_licence_is_guessed(text):
    assert recognize_license(text) is None


def test_a_notice_before_the_text_of_the_gpl_allows_later_versions():
    assert recognize_license(GPL_NOTICE + "\n\n" + GPL_3) == "GPL-3.0-or-later"
    assert recognize_license("My program.\n\n" + GPL_3) == "GPL-3.0-only"


@pytest.mark.parametrize(
    ("name", "text"), [("GPL-3", "GPL-3.0-only"), ("LGPL-2.1", "LGPL-2.1-only"), ("Apache-2.0", "Apache-2.0")]
)
def test_the_whole_texts_of_the_system_are_recognised(name, text):
    path = Path("/usr/share/common-licenses") / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    assert recognize_license(path.read_text(encoding="utf-8")) == text


@pytest.mark.parametrize(
    ("license", "allowed", "passes"),
    [
        ("MIT", ["MIT"], True),
        ("mit", ["Mit"], True),
        ("MIT", ["ISC"], False),
        (None, ["MIT"], False),
        (None, [], True),
        ("no licence that there is", [], True),
        ("no licence that there is", ["MIT"], False),
        ("MIT OR GPL-3.0-only", ["MIT"], True),
        ("GPL-3.0-only OR MIT", ["MIT"], True),
        ("MIT AND GPL-3.0-only", ["MIT"], False),
        ("MIT AND GPL-3.0-only", ["MIT", "GPL-3.0"], True),
        ("MIT OR ISC AND GPL-3.0-only", ["MIT"], True),
        ("MIT AND ISC OR GPL-3.0-only", ["MIT"], False),
        ("(MIT OR ISC) AND GPL-3.0-only", ["MIT"], False),
        ("(MIT OR ISC) AND (GPL-3.0-only OR BSD-2-Clause)", ["ISC", "BSD-2-Clause"], True),
        ("((MIT))", ["MIT"], True),
        ("GPL-2.0", ["GPL-2.0-only"], True),
        ("GPL-2.0+", ["GPL-2.0-or-later"], True),
        ("GPL-2.0+", ["GPL-2.0-only"], False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only"], True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only WITH Classpath-exception-2.0"], True),
        ("GPL-2.0-only", ["GPL-2.0-only WITH Classpath-exception-2.0"], False),
        ("MIT OR", ["MIT"], False),
        ("(" * 10_000 + "MIT" + ")" * 10_000, ["MIT"], False),
        ("LicenseRef-Ours", ["LicenseRef-ours"], True),
    ],
)
def test_a_filter_understands_expressions(license, allowed, passes):
    assert allows(license, allowed) is passes


def test_a_filter_judges_as_python_does_the_same_expression():
    names = ["MIT", "ISC", "Zlib"]
    forms = [
        "{} OR {} AND {}",
        "({} OR {}) AND {}",
        "{} AND ({} OR {})",
        "{} AND {} OR {}",
        "({}) OR (({}) AND {})",
    ]
    for form, truths in itertools.product(forms, itertools.product([True, False], repeat=3)):
        expected = eval(form.lower().format(*truths))
        allowed = [name for name, truth in zip(names, truths, strict=True) if truth] or ["Unlicense"]
        assert allows(form.format(*names), allowed) is expected, (form, truths)


def test_names_in_settings_become_canonical():
    assert check_licenses(["mit", "apache-2.0", "GPL-3.0"], "x") == ("MIT", "Apache-2.0", "GPL-3.0-only")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MTI", "'MIT'"),
        ("Apache 2.0", "'Apache-2.0'"),
        ("apache2", "'Apache-2.0'"),
        ("bsd3", "'BSD-3-Clause'"),
        ("", "MIT"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, hint):
    with pytest.raises(SettingsError, match=r"tasks\.licenses names") as caught:
        check_licenses([name], "tasks.licenses")
    assert hint in str(caught.value)


def test_an_expression_in_the_filter_is_refused():
    with pytest.raises(SettingsError, match="one by one"):
        check_licenses(["MIT OR ISC"], "--license")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# SPDX-License-Identifier: MIT\n", (True, "MIT")),
        ("/* SPDX-License-Identifier: GPL-2.0+ */ x", (True, "GPL-2.0-or-later")),
        ("<!-- SPDX-License-Identifier: mit OR apache-2.0 -->", (True, "MIT OR Apache-2.0")),
        ("//SPDX-License-Identifier:\tISC\r\nx", (True, "ISC")),
        ("# SPDX-License-Identifier: Our-Own\n", (True, None)),
        ("# SPDX-License-Identifier:\nMIT", (False, None)),
        ("x = 1\n", (False, None)),
        (" " * 5000 + "# SPDX-License-Identifier: MIT\n", (False, None)),
    ],
)
def test_the_line_of_a_file_is_read(text, found):
    assert read_license_line(text) == found


@pytest.mark.parametrize(
    ("words", "license"),
    [
        ("MIT License", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("New BSD License", "BSD-3-Clause"),
        ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
        ("BSD", None),
        ("Apache Software License", None),
        ("Apache", None),
        ("UNKNOWN", None),
        ("SEE LICENSE IN LICENSE.txt", None),
        ("UNLICENSED", None),
        ("x" * 100_000, None),
    ],
)
def test_the_words_of_metadata_are_named_only_where_they_fit_one_licence(words, license):
    assert name_license(words) == license


def test_every_identifier_of_the_tables_is_spdx():
    assert all(normalize_license(name) == name for name in (*FREQUENT, *SPOKEN.values(), *TEXTS))
