"""Made-up secrets in their issuers' formats, put together here so that no scanner stumbles over this file."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codestrata.data.secrets import Secret, find_secrets, list_formats

LETTERS = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA" * 8
HEXADECIMAL = "0a1b2c3d4e5f6789" * 8
CAPITALS = "Q7RT2ZPL5KMN3XCV" * 2


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


WEB_TOKEN = ".".join([part({"alg": "HS256", "typ": "JWT"}), part({"sub": "17", "name": "Ada"}), LETTERS[:43]])
KEY_BODY = "MIIEpAIBAAKCAQEA" + LETTERS[:48]

REAL = {
    "AWS access key": ["AKIA" + CAPITALS[:16], "ASIA" + CAPITALS[:16]],
    "AWS secret key": [
        f'aws_secret_access_key = "{LETTERS[:40]}"',
        f"AWS_SECRET_ACCESS_KEY={LETTERS[:40]}",
        f"secretAccessKey: '{LETTERS[:39]}/'",
    ],
    "GitHub token": [
        "ghp_" + LETTERS[:36],
        "ghs_" + LETTERS[:36],
        "github_pat_" + LETTERS[:22] + "_" + LETTERS[:59],
    ],
    "OpenAI key": [
        "sk-" + LETTERS[:20] + "T3BlbkFJ" + LETTERS[:20],
        "sk-proj-" + LETTERS[:60],
        "sk-" + LETTERS[:48],
    ],
    "Anthropic key": ["sk-ant-api03-" + LETTERS[:93] + "AA"],
    "Hugging Face token": ["hf_" + LETTERS[:34]],
    "Google API key": ["AIza" + LETTERS[:35]],
    "Google OAuth secret": ["GOCSPX-" + LETTERS[:28]],
    "Google access token": ["ya29." + LETTERS[:60]],
    "Slack token": [
        "xoxb-123456789012-1234567890123-" + LETTERS[:24],
        "xapp-1-A012345678-1234567890123-" + HEXADECIMAL[:64],
    ],
    "Slack webhook": ["https://hooks.slack.com/services/T01234567/B01234567/" + LETTERS[:24]],
    "Stripe key": ["sk_live_" + LETTERS[:24], "rk_live_" + LETTERS[:99]],
    "Stripe webhook secret": ["whsec_" + LETTERS[:32]],
    "npm token": ["npm_" + LETTERS[:36]],
    "PyPI token": ["pypi-AgEIcHlwaS5vcmc" + LETTERS[:120]],
    "DigitalOcean token": ["dop_v1_" + HEXADECIMAL[:64]],
    "GitLab token": ["glpat-" + LETTERS[:20]],
    "SendGrid key": ["SG." + LETTERS[:22] + "." + LETTERS[:43]],
    "Square secret": ["sq0csp-" + LETTERS[:43]],
    "Azure storage key": ["AccountKey=" + LETTERS[:86] + "=="],
    "Mailchimp key": [HEXADECIMAL[:32] + "-us12"],
    "Telegram bot token": ["1234567890:AA" + LETTERS[:33]],
    "Discord bot token": ["discord.login('M" + LETTERS[:23] + "." + LETTERS[:6] + "." + LETTERS[:27] + "')"],
    "SoftLayer key": ["softlayer_api_key = '" + HEXADECIMAL[:64] + "'"],
    "Cloudant key": ["cloudant_password = '" + HEXADECIMAL[:64] + "'"],
    "private key": [
        f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_BODY}\n-----END RSA PRIVATE KEY-----",
        f'KEY = ("-----BEGIN PRIVATE KEY-----\\n"\n       "{KEY_BODY}\\n")',
        f'"-----BEGIN EC PRIVATE KEY-----\\n{KEY_BODY}\\n"',
        f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,01\n\n{KEY_BODY}\n",
        f"# -----BEGIN OPENSSH PRIVATE KEY-----\n# b3BlbnNzaC1rZXktdjEAAAAA{LETTERS[:20]}\n",
        "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBcd\nkLmQ\n",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKC\nAQEA\n",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n",
        f"PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPrivate-Lines: 8\n{LETTERS[:64]}\n",
    ],
    "JSON web token": [WEB_TOKEN],
    "password in an address": [
        "postgres://admin:S3cr3tP4ss@db.internal:5432/prod",
        "https://bob:hunter2@example.com/x",
        "redis://:p4zzL3kk9@cache/0",
        "postgres://app:$ecretPa55word@db.internal/x",
        '"Server=db;User Id=sa;Password=Zx81kkLmq0;"',
        '"Data Source=db; Initial Catalog=x; uid=sa; pwd=Zx81kkLmq0"',
        "jdbc:mysql://h/db?user=root&password=Zx81kkLmq0",
        "jdbc:sqlserver://h:1433;databaseName=x;password=Zx81kkLmq0;",
    ],
    "named password or key": [
        'password = "tr0ub4dor&3x"',
        'password = "hunter2"',
        'PASSWORD = "SuperSecret123!"',
        'secret_key = "django-insecure-$x2&b!k9@wq3"',
        '"api-key": "9f8d7a6b5c4e3210"',
        "'api_key': '9f8d7a6b5c4e3210'",
        'SECRET_TOKEN => "k3J9-zz81-QQp2"',
        'def f(passwd="Zx81qq7!"):',
        'api_key: str = "f3b1c2d4e5f60718293a4b5c6d7e8f90"',
        'password: Final[str] = "Zx81kk!Lmq0"',
        'password: str | None = "Zx81kk!Lmq0"',
        'const apiKey: string = "f3b1c2d4e5f60718293a4b5c6d7e8f90"',
        'const API_KEY: &\'static str = "f3b1c2d4e5f60718293a4b5c6d7e8f90";',
        'var apiKey string = "f3b1c2d4e5f60718293a4b5c6d7e8f90"',
        "apiKey = `f3b1c2d4e5f60718293a4b5c6d7e8f90`",
        "define('DB_PASSWORD', 'Zx81kkLmq0');",
        'define( "api_key" , "f3b1c2d4e5f60718" );',
    ],
}

HARMLESS = {
    "AWS access key": [
        *("AKIAIOSFODNN7EXAMPLE", "AKIA" + "X" * 16, "AKIA" + CAPITALS[:15], "AKIA" + CAPITALS[:17]),
        *("zAKIA" + CAPITALS[:16], "AKIA" + CAPITALS[:16].lower()),
    ],
    "AWS secret key": [
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        f'aws_commit_secret = "{HEXADECIMAL[:40]}"',
        f'aws_secret_access_key = "{LETTERS[:39]}"',
        f'checksum = "{LETTERS[:40]}"',
    ],
    "GitHub token": [
        "ghp_" + "x" * 36,
        "ghp_" + LETTERS[:35],
        "ghx_" + LETTERS[:36],
        "github_pat_" + LETTERS[:22],
    ],
    "OpenAI key": [
        "sk-" + LETTERS[:47],
        "sk-your-key-here",
        "sk-proj-" + LETTERS[:20],
        "risk-" + LETTERS[:48],
    ],
    "Anthropic key": ["sk-ant-api03-xxxx", "sk-ant-" + LETTERS[:93]],
    "Hugging Face token": [
        "hf_" + LETTERS[:33],
        "hf_" + "x" * 34,
        "shelf_" + LETTERS[:34],
        "hf_hub_download_of_some_file_that_is_long",
    ],
    "Google API key": ["AIza" + LETTERS[:34], "AIza" + LETTERS[:36], "AIza" + "x" * 35],
    "Google OAuth secret": ["GOCSPX-" + LETTERS[:27]],
    "Google access token": ["ya29." + LETTERS[:20]],
    "Slack token": ["xoxb-your-token", "xoxb-", "xoxb-xxxxxxxxxxxx-xxxxxxxxxxxx"],
    "Slack webhook": ["https://hooks.slack.com/services/T00000000/B00000000/" + "X" * 24],
    "Stripe key": ["sk_live_" + LETTERS[:23], "sk_live_" + "x" * 24, "task_live_" + LETTERS[:24]],
    "Stripe webhook secret": ["whsec_" + LETTERS[:31]],
    "npm token": ["npm_" + LETTERS[:35], "npm_config_registry_of_the_whole_company"],
    "PyPI token": [
        "pypi-AgEIcHlwaS5vcmc",
        "pypi-server-with-a-very-long-name-that-goes-on-and-on-and-on-and-on",
    ],
    "DigitalOcean token": ["dop_v1_" + HEXADECIMAL[:63]],
    "GitLab token": ["glpat-" + LETTERS[:19], "glpat-" + "x" * 20],
    "SendGrid key": ["SG." + LETTERS[:22] + "." + LETTERS[:42]],
    "Square secret": ["sq0csp-" + LETTERS[:42]],
    "Azure storage key": ["AccountKey=" + LETTERS[:87], "AccountKey=your-key"],
    "Mailchimp key": [HEXADECIMAL[:31] + "-us12", HEXADECIMAL[:32] + "-eu1"],
    "Telegram bot token": ["1234567890:AA" + LETTERS[:32], "12:AA" + LETTERS[:33]],
    "Discord bot token": ["discord 'M" + LETTERS[:20] + "." + LETTERS[:6] + "." + LETTERS[:27] + "'"],
    "SoftLayer key": ["softlayer_api_key = '" + HEXADECIMAL[:63] + "'"],
    "Cloudant key": ["cloudant_password = '" + HEXADECIMAL[:63] + "'"],
    "private key": [
        'if line.startswith("-----BEGIN RSA PRIVATE KEY-----"):\n    privateKeyFollowsHere = 1',
        '"-----BEGIN PRIVATE KEY-----"\n  thisIsJustTheNextLineOfProgram()',
        "-----BEGIN PUBLIC KEY-----\n" + KEY_BODY,
        "-----BEGIN CERTIFICATE-----\n" + KEY_BODY,
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEAxxxxxxxxxxxxxxxxxxxxxx",
        '"-----BEGIN PRIVATE KEY-----"\n  MIGRATIONS_1 = MHASH256SUM',
        "-----BEGIN EC PRIVATE KEY-----\nMHcC...\n",
    ],
    "JSON web token": [
        "eyJhbGciOi.eyJub3RoaW5n.short",
        "eyJ" + LETTERS[:40] + ".eyJ" + LETTERS[:40] + "." + LETTERS[:40],
    ],
    "password in an address": [
        *(
            "https://user:password@example.com",
            "http://username:passwd@host",
            "ftp://a:b@c",
            "https://host:8080/@x",
        ),
        *(
            "postgres://user:%s@host/db",
            "postgres://user:${PASSWORD}@host",
            "http://u:{secret}@h",
            "http://x:$PASS@h",
        ),
        *("mysql://u:$dbPassword2@h", "mysql://u:%DB_PASS%@h", "http://u:$config.password@h"),
        "smb://myuser:mypassword@myserver.com/",
        *("a=1;user=b;password=input12;", '"Server=x;Password={0};"', '"Server=x;Password=your_password1;"'),
        *("http://h/x?user=1&password=hidden", "user=a;password=next(page12);", "x;password=Zx81kkLmq0;"),
        *("http://bob:my_password1@h", "http://u:<secret>@h", "git://host/path:name@v1.2345"),
    ],
    "named password or key": [
        *(
            'password = "password"',
            "password: 'xxxxxxxx'",
            'token = "my_access_token_2"',
            'api_key = "YOUR_API_KEY_123"',
        ),
        *('password == "hunter22x9"', 'key = "k3J9zz81QQp2"', 'secret = os.environ["SECRET_42_NAME_7"]'),
        *(
            'token = "oauth2_token1"',
            'password = "{user}12345"',
            'token_url = "http://h/v1/token2x"',
            'token = "%s-12ab34"',
        ),
        *(
            'secret = "changeme123"',
            'apikey = "test-key-1234"',
            "password: '/etc/key12.pem'",
            '<assemblyIdentity type="win32" publicKeyToken="1fc8b3b9a1e18e3b"/>',
            'token: str = "access_token2"',
            'password: str = "{user}12345"',
            "apiKey = `${prefix}f3b1c2d4e5f6`",
            'var token string = "the_token_name"',
            "define('SECRET_KEY', 'put your unique phrase here 12')",
            "define('TOKEN_NAME', 'access_token')",
            'items("token", "f3b1c2d4e5f60718")',
            'token: Callable[[str], str] == "f3b1c2d4e5f60718"',
            'token = "sha256:abc123"',
        ),
    ],
}

NAMED_ANYWAY = [
    ("AWS secret key", HARMLESS["AWS secret key"][1]),
    ("AWS secret key", HARMLESS["AWS secret key"][2]),
    ("SoftLayer key", HARMLESS["SoftLayer key"][0]),
    ("Cloudant key", HARMLESS["Cloudant key"][0]),
]
"""No keys of these issuers, but what stands beside a name such as ``secret`` is one of some kind."""


def pairs(table):
    return [(kind, text) for kind, texts in table.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), pairs(REAL))
def test_a_secret_is_found(kind, text):
    assert [secret.kind for secret in find_secrets(f"x = 1\n  {text}\n")] == [kind]


@pytest.mark.parametrize(("kind", "text"), pairs(HARMLESS))
def test_a_near_miss_or_placeholder_is_none(kind, text):
    found = [secret.kind for secret in find_secrets(f"x = 1\n  {text}\n")]
    assert found == (["named password or key"] if (kind, text) in NAMED_ANYWAY else [])


def test_every_format_has_both_tests():
    kinds = {form.kind for form in list_formats()} | {"password in an address", "named password or key"}
    assert kinds == set(REAL) == set(HARMLESS)


@pytest.mark.parametrize("wrap", ['"{}"', "'{}'", "({})", "x={},", "`{}`", "{}\n", "<{}>", "{};"])
def test_what_stands_around_a_token_does_not_hide_it(wrap):
    assert find_secrets(wrap.format("ghp_" + LETTERS[:36]))
    assert find_secrets(wrap.format("AKIA" + CAPITALS[:16]))


@pytest.mark.parametrize(
    "text",
    [
        f'commit = "{HEXADECIMAL[:40]}"',
        f'digest = "sha256:{HEXADECIMAL[:64]}"',
        f"integrity sha512-{LETTERS[:86]}==",
        'uuid = "123e4567-e89b-12d3-a456-426614174000"',
        "data:image/png;base64," + LETTERS * 4,
    ],
)
def test_hashes_and_data_are_no_secrets(text):
    assert find_secrets(text) == ()


def test_lines_count_from_one_and_findings_come_in_their_order():
    github, aws = "ghp_" + LETTERS[:36], "AKIA" + CAPITALS[:16]
    text = f"{aws}\n\n{github} {aws}\r\n{github} {github}\n"
    assert find_secrets(text) == (
        Secret("AWS access key", 1),
        Secret("AWS access key", 3),
        Secret("GitHub token", 3),
        Secret("GitHub token", 4),
    )


def test_one_secret_counts_once_where_its_name_stands_beside_it():
    assert find_secrets(f'token = "ghp_{LETTERS[:36]}"') == (Secret("GitHub token", 1),)


@pytest.mark.parametrize(("kind", "text"), pairs(REAL))
def test_a_finding_does_not_hold_the_secret(kind, text):
    body = max(text.replace("\n", " ").split(), key=len)
    assert body not in repr(find_secrets(text))


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text):
    assert isinstance(find_secrets(text), tuple)


@pytest.mark.parametrize(
    "text",
    [
        "aws" * 50_000,
        "secret " * 20_000,
        "password=" * 20_000,
        "://" * 50_000,
        "://" + "a" * 200_000,
        "-----BEGIN PRIVATE KEY-----" + "\n" * 100_000,
        ("-----BEGIN PRIVATE KEY-----" + "Abc: x\n" * 5) * 3_000,
        "PuTTY-User-Key-File-2: " * 8_000,
        "eyJ" * 60_000,
        "cloudant" * 20_000,
        "token='" + "a1" * 100_000,
        "token: a" * 20_000,
        "define('" * 20_000 + "token",
        "define('" + "token" * 30_000,
        "user=" * 30_000 + ";password",
        "://" + ";password=" * 20_000,
        ("server=" + "a;" * 90) * 800 + "key",
    ],
)
def test_hostile_text_does_not_hold_up(text):
    started = time.process_time()
    find_secrets(text)
    assert time.process_time() - started < 2


def test_real_functions_hold_none(shared_data):
    texts = []
    for path in [*shared_data.glob("codesearchnet/*/test.jsonl"), shared_data / "cosqa" / "python.jsonl"]:
        with path.open(encoding="utf-8") as lines:
            texts += [json.loads(line) for line in lines]
    found = [row for row in texts if find_secrets("\n".join(str(value) for value in row.values()))]
    assert len(texts) > 8000
    assert found == []
