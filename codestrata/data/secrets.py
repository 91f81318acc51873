"""Keys, tokens and passwords in a text, by the formats that their issuers document.

Each format has a fixed beginning or a name beside it; those of the library ``detect-secrets`` are taken where
they are narrow enough for source code. What is obviously a placeholder, such as ``AKIAIOSFODNN7EXAMPLE``,
``xxxx`` or ``password = "password"``, is none. Nothing is ever sent anywhere to see whether a key works.

What this does not do: find random-looking text that has neither form nor name (hashes look like that too), or
give a secret back: a finding is its kind and line.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

NOTED = "contain a secret"
"""What a task's note says of examples that were kept though they have one."""
WORST_CASE_CHARACTERS = 200
"""The longest placeholder-like text that is looked at."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Something secret: what it seems to be, and the line it begins in, from 1."""

    kind: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """What a kind of secret looks like: one of ``signs`` must be in a text for ``pattern`` to be tried.

    ``group`` of the pattern (0: all of it) is what must be real and no placeholder.
    """

    kind: str
    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    group: int
    is_real: Callable[[str], bool]


ALONE = r"(?<![A-Za-z0-9_/+-])"
"""Nothing before a token that would make it part of a longer word."""
ENDED = r"(?![A-Za-z0-9_-])"
CLEAR_WORDS = re.compile(
    r"example|x{4}|placeholder|your|change_?me|redacted|insert|\*{3}|\.{3}", re.IGNORECASE
)
"""What makes even a well-formed token a placeholder."""
KEY_HEADER = r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,2}(?:ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----"
KEY_GAP = r"(?:\\[nr\\]|[\s\"'+,`#*|]){0,40}"
KEY_LINE = r"(?:[A-Z][A-Za-z-]{2,20}: [^\n\\]{0,120}(?:\\n|\n))"
KEY_BODY = (
    r"([A-Za-z0-9+/]{20,}"
    r"|(?:MII|MI[GHI][A-Za-z0-9+/]AgE|M[A-H][A-Za-z0-9+/]CAQ|b3BlbnNz)[A-Za-z0-9+/]{4,})"
)
"""A long line of a key, or a shorter one that begins as all keys of the usual formats do."""
URL_PASSWORD = re.compile(
    r"://[^\s:/?#@'\"<>{}()\[\]\\|`,;*]{0,64}:([^\s:/?#@'\"<>{}()\[\]\\|`]{3,128})@(?=[A-Za-z0-9_\[-])"
)
CONNECTION_PASSWORD = re.compile(
    r"(?:://|(?:server|data source|host|database|user ?id|uid|user)[ ]?=)[^\n\"'`<>(){}]{0,200}?"
    r"[?&;][ ]?(?:passwo?r?d|pwd)=([^\"'`\s;&]{6,128})",
    re.IGNORECASE,
)
SECRET_NAME = (
    r"(?<!publickey)(passwo?r?d|pwd|passphrase|secret|token"
    r"|(?:api|access|account|auth|encryption|master|private|secret|signing)[_-]?key)"
)
TYPE = r"(?::[ \t]{0,8}(?:&(?:'static )?)?[A-Za-z][\w.\[\]<>?|, \t]{0,40}|[ \t]{1,8}string[ \t]{0,8})"
"""What is between a name and ``=`` in ``key: Final[str] = "..."`` or in Go's ``var key string = "..."``."""
NAMED_VALUE = re.compile(
    SECRET_NAME
    + r"[\"'\]]{0,2}(?:[ \t]{0,8}(?:=>|:=|=|:)|"
    + TYPE
    + r"=)[ \t]{0,8}(?:[bru]?[\"']([^\"'\s]{6,128})[\"']|`([^`\s]{6,128})`)",
    re.IGNORECASE,
)
DEFINED_VALUE = re.compile(
    r"define\([ \t]{0,8}[\"']\w{0,40}?"
    + SECRET_NAME
    + r"[\"'][ \t]{0,8},[ \t]{0,8}[\"']([^\"'\s]{6,128})[\"']",
    re.IGNORECASE,
)
"""PHP's constants."""
NAMES = ("pass", "pwd", "secret", "token", "key")
PLAIN_WORDS = frozenset(
    "a abc access admin an and api auth aws bar baz by change changeme client confirm credential"
    " credentials custom database db default demo dummy empty enter example fake field foo for from get"
    " github google guest here hidden host id input insert invalid is key keys label local login me missing"
    " mock my mypassword mysql name new none not null of oauth old or pass passphrase password passwd"
    " passwort placeholder postgres private public"
    " pw pwd qwerty random redacted reset root sample secret secrets set some string test testing"
    " text the"
    " this to token tokens type unknown user username value with wrong your".split()
)
"""A password that is made of nothing else, and at most a few digits, is a placeholder or a name."""
SHORTEST_PASSWORD, SHORTEST_KEY = 6, 8


def find_secrets(text: str) -> tuple[Secret, ...]:
    """What a text holds that should not be shared, in the order of lines; each kind once in a line."""
    places = []
    for form in list_formats():
        if any(sign in text for sign in form.signs):
            places += [(place, form.kind) for place in match_format(form, text)]
    found = set(number_lines(text, places))
    weak = list(number_lines(text, list(match_weak(text))))
    taken = {secret.line for secret in found}
    found.update(secret for secret in weak if secret.line not in taken)
    return tuple(sorted(found, key=lambda secret: (secret.line, secret.kind)))


def hide_secret(name: str) -> str:
    """A name as it may be shown; what stands for it where it holds a secret."""
    kinds = ", ".join(dict.fromkeys(secret.kind for secret in find_secrets(name)))
    return f"<hidden: {kinds}>" if kinds else name


def match_format(form: Format, text: str) -> Iterator[int]:
    """Where something of a format begins that is no placeholder."""
    for match in form.pattern.finditer(text):
        value = match.group(form.group)
        if form.is_real(value) and not is_clear_placeholder(value):
            yield match.start()


def match_weak(text: str) -> Iterator[tuple[int, str]]:
    """Where a password stands in an address, or beside a name that says what it is."""
    if "://" in text:
        for match in URL_PASSWORD.finditer(text):
            if is_password(match.group(1)):
                yield match.start(), "password in an address"
    lowered = text.lower()
    if not any(name in lowered for name in NAMES):
        return
    for match in CONNECTION_PASSWORD.finditer(text):
        if is_bare_password(match.group(1)):
            yield match.start(1), "password in an address"
    for pattern in (NAMED_VALUE, DEFINED_VALUE):
        for match in pattern.finditer(text):
            if is_named_secret(match.group(1), match.group(match.lastindex or 0)):
                yield match.start(), "named password or key"


def number_lines(text: str, places: list[tuple[int, str]]) -> Iterator[Secret]:
    """The findings with their lines, in one walk over the text."""
    line, last = 1, 0
    for place, kind in sorted(places):
        line += text.count("\n", last, place)
        last = place
        yield Secret(kind, line)


def is_clear_placeholder(value: str) -> bool:
    """Whether a well-formed token is one that nobody could use: it says so, or repeats one character."""
    body = value[:WORST_CASE_CHARACTERS]
    tail = body[len(body) // 2 :]
    return CLEAR_WORDS.search(body) is not None or len(set(tail)) == 1


def is_password(value: str) -> bool:
    """Whether what stands at a password's place in an address is one, not a name or a variable."""
    if len(value) < SHORTEST_PASSWORD or "%s" in value or "%(" in value:
        return False
    if re.fullmatch(r"[$%][A-Za-z_.]+\d{0,4}%?", value):
        return False
    return not is_made_of_plain_words(value) and not is_clear_placeholder(value)


def is_bare_password(value: str) -> bool:
    """Whether what follows ``password=`` without quotes is one, not the name of a variable."""
    return re.fullmatch(r"[A-Za-z_]+\d{0,2}", value) is None and is_named_secret("password", value)


def is_made_of_plain_words(value: str) -> bool:
    """Whether a text is made of words that say "password" or "example", and at most four digits."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", value)
    digits = sum(character.isdigit() for character in value)
    return digits <= 4 and all(word.lower() in PLAIN_WORDS for word in words)


def is_named_secret(name: str, value: str) -> bool:
    """Whether the text beside a name such as ``password`` is a secret: mixed enough, and no other thing.

    It has letters and digits (a key at least two) among at least six different characters, and is no path,
    pattern, template, address, or identifier of words such as ``oauth2_token``.
    """
    letters = sum(character.isalpha() for character in value)
    digits = sum(character.isdigit() for character in value)
    is_personal = name[0] in "pP" and not name.lower().endswith("key")
    if digits < (1 if is_personal else 2) or letters < 3 or len(set(value)) < 6:
        return False
    if not is_personal and len(value) < SHORTEST_KEY:
        return False
    if value[0] in "$%/.<{[(\\@:#-" or re.search(
        r"://|%[sd(]|\{|\}|\$[({A-Z_]|\\[dwsbnx]|[()<>\[\]]|\.\w{2,4}$", value
    ):
        return False
    words = r"(?:[A-Za-z]{2,}\d{0,4}[-_.:/ ])*[A-Za-z]{2,}\d{0,4}"
    is_name = re.fullmatch(words, value) and not (is_personal and value.isalnum())
    if is_name or is_clear_placeholder(value):
        return False
    return not is_made_of_plain_words(value)


def is_mixed(value: str) -> bool:
    """Whether a token of 40 characters is random: a hash has no capital letters, a word no digits."""
    return bool(re.search(r"[A-Z]", value) and re.search(r"[a-z]", value) and re.search(r"\d", value))


def is_key_body(value: str) -> bool:
    """Whether what follows the first line of a private key is a key, not the next word of a program."""
    return value.startswith("MI") or value[3:6] == "CAQ" or re.search(r"[\d+/]", value) is not None


def accept(_: str) -> bool:
    """Whatever has the form is it."""
    return True


@cache
def list_formats() -> tuple[Format, ...]:
    """All formats that have a beginning of their own."""
    return (*list_own_formats(), *list_library_formats())


def list_own_formats() -> tuple[Format, ...]:
    """Formats by their issuers' documentation, with the limits that source code needs."""
    rows: tuple[tuple[str, tuple[str, ...], str, Callable[[str], bool]], ...] = (
        (
            "AWS access key",
            ("AKIA", "ASIA", "ABIA", "ACCA"),
            ALONE + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}" + ENDED,
            accept,
        ),
        (
            "AWS secret key",
            ("aws", "AWS", "Aws", "secret", "SECRET", "Secret"),
            r"(?i:aws|secret)[^\n]{0,60}?[\"'=:\s]([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=_-])",
            is_mixed,
        ),
        (
            "GitHub token",
            ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
            r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9]{36,255}",
            accept,
        ),
        ("GitHub token", ("github_pat_",), r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", accept),
        ("OpenAI key", ("sk-",), ALONE + r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,200}", accept),
        (
            "OpenAI key",
            ("sk-",),
            ALONE + r"sk-(?:[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}|[A-Za-z0-9]{48})" + ENDED,
            accept,
        ),
        ("Anthropic key", ("sk-ant-",), ALONE + r"sk-ant-[a-z]{3,8}\d{2}-[A-Za-z0-9_-]{32,200}", accept),
        (
            "Hugging Face token",
            ("hf_", "api_org_"),
            ALONE + r"(?:hf|api_org)_[A-Za-z0-9]{34,40}" + ENDED,
            accept,
        ),
        ("Google API key", ("AIza",), ALONE + r"AIza[A-Za-z0-9_-]{35}" + ENDED, accept),
        ("Google OAuth secret", ("GOCSPX-",), ALONE + r"GOCSPX-[A-Za-z0-9_-]{28}" + ENDED, accept),
        ("Google access token", ("ya29.",), ALONE + r"ya29\.[A-Za-z0-9_-]{40,}", accept),
        (
            "Slack token",
            ("xox",),
            r"(?<![A-Za-z0-9])xox[abeoprs]-(?:\d-)?[A-Za-z0-9]{8,}(?:-[A-Za-z0-9]{8,})+",
            accept,
        ),
        ("Slack token", ("xapp-",), ALONE + r"xapp-\d-[A-Z0-9]{8,}-\d{8,}-[a-f0-9]{32,}", accept),
        (
            "Slack webhook",
            ("hooks.slack.com/",),
            r"hooks\.slack\.com/(?:services|workflows)/(T[A-Za-z0-9_]{6,}/[AB][A-Za-z0-9_]{6,}/[A-Za-z0-9_]{20,})",
            accept,
        ),
        (
            "Stripe key",
            ("k_live_", "k_test_"),
            ALONE + r"[rs]k_(?:live|test)_[A-Za-z0-9]{24,247}" + ENDED,
            accept,
        ),
        ("Stripe webhook secret", ("whsec_",), ALONE + r"whsec_[A-Za-z0-9+/=]{32,}", accept),
        ("npm token", ("npm_",), ALONE + r"npm_[A-Za-z0-9]{36}" + ENDED, accept),
        ("PyPI token", ("pypi-AgE",), r"pypi-AgE[A-Za-z0-9_-]{50,}", accept),
        ("DigitalOcean token", ("_v1_",), ALONE + r"do[opr]_v1_[a-f0-9]{64}" + ENDED, accept),
        (
            "private key",
            ("PRIVATE KEY",),
            KEY_HEADER + KEY_GAP + f"(?:{KEY_LINE}{KEY_GAP}){{0,5}}" + KEY_BODY,
            is_key_body,
        ),
        (
            "private key",
            ("PuTTY-User-Key-File-",),
            r"PuTTY-User-Key-File-[23]: [\s\S]{0,600}?Private-Lines: \d+",
            accept,
        ),
        (
            "JSON web token",
            ("eyJ",),
            ALONE + r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}",
            is_web_token,
        ),
    )
    compiled = [(kind, signs, re.compile(pattern), is_real) for kind, signs, pattern, is_real in rows]
    return tuple(
        Format(kind=kind, signs=signs, pattern=pattern, group=pattern.groups, is_real=is_real)
        for kind, signs, pattern, is_real in compiled
    )


def is_web_token(value: str) -> bool:
    """Whether the first two parts of a web token are JSON, as the library decides."""
    from detect_secrets.plugins.jwt import JwtTokenDetector

    return JwtTokenDetector.is_formally_valid(value)


def list_library_formats() -> tuple[Format, ...]:
    """The formats of ``detect-secrets`` that are narrow enough; its plugins never verify anything here."""
    from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
    from detect_secrets.plugins.cloudant import CloudantDetector
    from detect_secrets.plugins.discord import DiscordBotTokenDetector
    from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
    from detect_secrets.plugins.mailchimp import MailchimpDetector
    from detect_secrets.plugins.sendgrid import SendGridDetector
    from detect_secrets.plugins.softlayer import SoftlayerDetector
    from detect_secrets.plugins.square_oauth import SquareOAuthDetector
    from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector

    rows = (
        ("Azure storage key", ("AccountKey=",), AzureStorageKeyDetector),
        ("Cloudant key", ("cloudant", "Cloudant", "CLOUDANT"), CloudantDetector),
        ("Discord bot token", ("discord", "Discord", "DISCORD"), DiscordBotTokenDetector),
        ("GitLab token", ("gl", "GR1348941"), GitLabTokenDetector),
        ("Mailchimp key", ("-us",), MailchimpDetector),
        ("SendGrid key", ("SG.",), SendGridDetector),
        ("SoftLayer key", ("softlayer", "Softlayer", "SoftLayer", "SOFTLAYER"), SoftlayerDetector),
        ("Square secret", ("sq0csp-",), SquareOAuthDetector),
        ("Telegram bot token", (":AA",), TelegramBotTokenDetector),
    )
    return tuple(
        Format(kind=kind, signs=signs, pattern=wrap(pattern), group=0, is_real=accept)
        for kind, signs, plugin in rows
        for pattern in plugin.denylist
    )


def wrap(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """A pattern of the library that does not begin in the middle of a word."""
    return re.compile(f"(?<![A-Za-z0-9_])(?:{pattern.pattern})", pattern.flags)
