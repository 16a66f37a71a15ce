"""What looks like a secret in documents: as people write it, in each kind of file; and what only speaks of secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftq.check.check import check
from ftq.check.secrets.find import secrets
from ftq.check.secrets.values import masked
from ftq.spec.options import parse
from tests.office_files import workbook
from tests.test_check import write

TOKEN = "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5"
BEARER = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoiam9lIn0.kQ9wZr7LmT2xV_84"
AZURE = "AccountKey=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6QUJDREVGRw=="
HOOK = "hooks.slack.com/services/" + "T02AB3CD4/B05EF6GH7/k9LmN8oPq7RsT6uVw5XyZ4a3"


@pytest.mark.parametrize(("text", "found"), [
    (f"token: {TOKEN}.", [("GitHub token", TOKEN)]),
    ("AKIAQ3EGRTUVWXYZ2345", [("AWS key", "AKIAQ3EGRTUVWXYZ2345")]),
    ("-----BEGIN RSA PRIVATE KEY-----", [("private key", "-----BEGIN RSA PRIVATE KEY-----")]),
    ("postgres://me:hunter22x@db.host.org/x",
     [("password in an address", "postgres://me:hunter22x@db.host.org")]),
    ("DB_PASSWORD=correcthorse", [("password or key", "correcthorse")]),
    ('"api_key": "9f8e7d6c5b",', [("password or key", "9f8e7d6c5b")]),
    ("password: string, PASSWORD=<yours>, password=config.password, PASSWORD=${PW}, max_tokens=2048, PASSWORD=", []),
    ("AKIAIOSFODNN7EXAMPLE, postgres://user:password@localhost, https://a.b:80/@x, ghp_" + "x" * 36, []),
    ("redis://:$PASSWORD@redis:6379, sk-learn and sk-" + "a" * 40, []),
    ("- Passwort: Sommer2026!", [("password or key", "Sommer2026!")]),
    ("The router's password is Hunter2Hunter2.", [("password or key", "Hunter2Hunter2")]),
    ("Das Passwort im WLAN lautet Sommer2026!", [("password or key", "Sommer2026!")]),
    ("The password is hashed with SHA-256. The secret is Base64Encoded, the token is 12 characters. The API key is set "
     "in Config2Loader-style files", []),
    ("| Device | Password |\n|---|---|\n| router | `Sommer2026!` |\n| door | hunter22 |",
     [("password or key", "Sommer2026!"), ("password or key", "hunter22")]),
    ("Host | Root-Passwort (alt)\n--- | ---\nnas | Winter#bote\n\nx | no table, but1more!",
     [("password or key", "Winter#bote")]),
    ("| Service | API key | Bot token |\n| :-- | --- | --: |\n| mail | 9f8e7d6c5b4a | q9w8e7r6t5z4u3 |",
     [("password or key", "9f8e7d6c5b4a"), ("password or key", "q9w8e7r6t5z4u3")]),
    ("| Setting | Value | Note |\n|---|---|---|\n| Secret | 9f8e7d6c5b4a | Sommer2026! |",
     [("password or key", "9f8e7d6c5b4a")]),
    ("| User | Password |\n|---|---|\n| ann | required |\n| ben | see the vault 1 |\n| eve | ******** |\n| joe | 8+ |\n"
     "| dan | your-password1 |\n| kim | changeme1! |\n| ida | https://vault.org/1! |", []),
    ("| Token | Meaning |\n|---|---|\n| IDENT42 | a name |\n| utf8 | Latin1Letters! |", []),
    ("| Password policy | Password length | Tokens |\n|---|---|---|\n| Strong2Day! | 12letters | 9f8e7d6c5b4a |", []),
    ("| User | Password |\n|---|---|\n| ann |\n| ben | Sommer2026! |\n\n| Secret |",
     [("password or key", "Sommer2026!")]),
])  # fmt: skip
def test_keys_with_a_form_of_their_own_are_secrets_and_examples_of_them_are_not(
    text: str, found: list[tuple[str, str]]
) -> None:
    assert [(one.what, one.value) for one in secrets(text)] == found


def test_a_password_in_a_table_is_told_with_its_line(tmp_path: Path) -> None:
    files = {"a.md": "# Access\n\n| Device | Password |\n|---|---|\n| router | Sommer2026! |\n",
             "b.csv": "host,Passwort\nweb,Winter2025!\ndb,required\n"}  # fmt: skip
    checked = check(write(tmp_path / "docs", files), parse({"model": "any"}))
    [finding] = [one for one in checked.of("warning") if "secret" in one.message]
    assert finding.message == "2 texts look like secrets"
    assert finding.places == ("a.md:5: password or key Som...", "b.csv:2: password or key Win...")


def test_a_secret_is_told_without_telling_it() -> None:
    assert masked(TOKEN) == "ghp_aB..."
    assert masked("Sommer2026!") == "Som..." and masked("hunter") == "hu..."


WRITTEN = {
    "password or key": [
        ('Passwort = "Sommer2024"', "Sommer2024"),
        ("Passwort = Sommer2024", "Sommer2024"),
        ('password = "Sommer2024"', "Sommer2024"),
        ("- **Password:** Filament2026", "Filament2026"),
        ("**Wifi password**: Filament2026", "Filament2026"),
        ("Password for the wifi: Filament2026", "Filament2026"),
        ("Passwort WLAN: Sommer2024", "Sommer2024"),
        ("user `shop`, password `brassL4mp!`", "brassL4mp!"),
        ("Use the password Sommer2024 to log in", "Sommer2024"),
        ("Use the password brassL4mp! to log in.", "brassL4mp!"),
        ("Server root pw = Geheim123", "Geheim123"),
        ("Pwd: Geheim123", "Geheim123"),
        ("PW: Geheim123", "Geheim123"),
        ("pass 1q2w3e4r", "1q2w3e4r"),
        ("user joe, pass 1q2w3e4r", "1q2w3e4r"),
        ("login: joe / pass: 1q2w3e4r", "1q2w3e4r"),
        ("admin:Winter2025!", "Winter2025!"),
        ("curl -u joe:Geheim123 https://x.org", "Geheim123"),
        ("mysql -u root -pTopSecret1 shop", "TopSecret1"),
        ("mysql -pTopSecret1", "TopSecret1"),
        ("Mot de passe : Soleil2024", "Soleil2024"),
        ("Contraseña: Verano2024", "Verano2024"),
        ("wachtwoord: Zomer2024", "Zomer2024"),
        ("hasło: Lato2024x", "Lato2024x"),
        ("senha: Verao2024", "Verao2024"),
        ("password di wifi: Estate2024", "Estate2024"),
        ("La password di WLAN è Estate2024", "Estate2024"),
        ("Das Passwort im WLAN lautet Sommer2026!", "Sommer2026!"),
        ("The router's password is Hunter2Hunter2.", "Hunter2Hunter2"),
        ('"password": "Wolke7x!"', "Wolke7x!"),
        ("'password': 'Wolke7x!',", "Wolke7x!"),
        ("DB_PASSWORD=correcthorse", "correcthorse"),
        ("password: 'hunter22'", "hunter22"),
        ("**Passwort** (WLAN): `Sommer2024`", "Sommer2024"),
        ("API key for mail: 9f8e7d6c5b4a3", "9f8e7d6c5b4a3"),
        ('api_key = "9f8e7d6c5b"', "9f8e7d6c5b"),
        ("Username: joe Password: Filament2026", "Filament2026"),
        ("Passwort - Sommer2024", "Sommer2024"),
    ],
    "web token": [
        (f"Authorization: {BEARER}", BEARER),
    ],
    "Azure key": [
        (f"DefaultEndpointsProtocol=https;AccountName=shop;{AZURE};", AZURE),
    ],
    "card number": [
        ("card 4539 1488 0343 6467 cvv 123", "4539 1488 0343 6467"),
        ("Karte: 4539148803436467", "4539148803436467"),
        ("5500 0055 5555 5559", "5500 0055 5555 5559"),
    ],
    "IBAN": [
        ("IBAN DE44 5001 0517 5407 3249 31", "DE44 5001 0517 5407 3249 31"),
        ("GB33BUKB20201555555555", "GB33BUKB20201555555555"),
    ],
    "PIN or code": [
        ("The PIN of the company card is 8830", "8830"),
        ("PIN: 8830", "8830"),
        ("alarm code: 4711", "4711"),
        ("Alarm code is 4711.", "4711"),
        ("The code for the alarm is 4711", "4711"),
        ("The combination of the safe is 12-34-56", "12-34-56"),
        ("combination of the safe: 24 08 17", "24 08 17"),
        ("Zugangscode: 4711#", "4711"),
        ("Türcode 4711", "4711"),
    ],
    "Slack webhook": [
        (f"Post to https://{HOOK}", HOOK),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("what", "text", "value"), [(what, *one) for what, texts in WRITTEN.items() for one in texts])
def test_a_secret_is_found_as_people_write_it(what: str, text: str, value: str) -> None:
    assert [(one.what, one.value) for one in secrets(text)] == [(what, value)]
    told = masked(value)
    assert told.endswith("...") and len(told) - 3 <= len(value) / 3


@pytest.mark.parametrize("text", [
    "The password must have 12 characters",
    "Forgot your password?",
    "password: required",
    "password: string",
    "password: <password>",
    "password: YOUR_PASSWORD",
    "password: changeme",
    "password: ****",
    "password: ${PASSWORD}",
    "password = xxx",
    'password: "xxxxxxxx"',
    "password: VARCHAR(255)",
    "password = config.password2",
    'password = os.environ["PW1"]',
    "password = getpass.getpass1()",
    "Password: min. 8 characters",
    "password: SHA-256 hash",
    "WiFi password: WPA2-PSK",
    "The password is stored in /etc/shadow1",
    "A token is valid for 30days",
    "The PIN has 4 digits",
    "The PIN must be 8830 digits",
    "pin 4711 of the plug",
    "error code: 4711",
    "The secret is Base64Encoded, the token is 12 characters.",
    "primary key: user_id2",
    "max_tokens=2048",
    "Order 4539148803436467 was sent",
    "key: value1",
    "Passwords are hashed with bcrypt12",
    "password policy: 12-characters",
    "the key is F12",
    "Password reset: https://x.org/reset1",
    "Password help: help1@x.org",
    "pass `utf8mb4` to it",
    "Pass the parameter2 to it",
    "boarding pass 12A34B56C",
    "the password field2 holds",
    "git commit -p1",
    "docker run --user 1000:1000",
    "user:1000",
    "Bearer token",
    "Authorization: Bearer <token>",
    "Authorization: Bearer YOUR_TOKEN_1234567890",
    "Set FTQ_PASSWORD_FILE=/run/secrets/x1",
    "password_hash: a1b2c3d4e5",
    "2025-11-30 12:00:00",
    "the PIN is 1234 by default",
    "postal code: 80331",
    "Country code: 0049",
    "combination of the two is 12345",
    "a card, for example 4539 1488 0343 6467",
    "4539 1488 0343 6468, DE44 5001 0517 5407 3249 32",
])  # fmt: skip
def test_what_speaks_of_secrets_is_none(text: str) -> None:
    assert list(secrets(text)) == []


def test_a_secret_in_a_file_of_data_is_told_with_its_line(tmp_path: Path) -> None:
    rows = "".join(f'<row><c t="inlineStr"><is><t>{a}</t></is></c><c t="inlineStr"><is><t>{b}</t></is></c></row>'
                   for a, b in (("User", "Password"), ("anna", "Nebel7x!")))  # fmt: skip
    files = {
        "a.json": '[{"user":"anna","password":"Wolke7x!"},\n{"user":"ben","password":"Regen8y!"}]',
        "b.csv": "user,password\nanna,Hagel6z!\n",
        "c.jsonl": '{"question": "What is the password of the wifi?", "answer": "It is Sturm2024."}',
        "d.md": "# Sommer2024 is a song\n\nWe sing it in Sommer2024.\n\n- **Password:** Sommer2024\n",
    }
    folder = write(tmp_path / "docs", files)
    (folder / "e.xlsx").write_bytes(workbook({"Access": rows}))
    checked = check(folder, parse({"model": "any"}))
    [finding] = [one for one in checked.of("warning") if "secret" in one.message]
    assert sorted(finding.places) == [
        "a.json:1: password or key Wo...", "a.json:2: password or key Re...", "b.csv:2: password or key Ha...",
        "c.jsonl:1: password or key Stu...", "d.md:5: password or key Som...", "e.xlsx: password or key Ne...",
    ]  # fmt: skip


def test_of_a_private_key_that_is_left_out_it_is_said_that_no_model_learns_it(tmp_path: Path) -> None:
    body = "\n".join(f"MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCzweN/MAFxvan{n}" for n in range(6))
    key = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"
    files = {"a.md": f"# Key\n\nHere it is.\n\n{key}\n\nThat was it.\n",
             "b.json": json.dumps([{"question": "Which key?", "answer": key}])}  # fmt: skip
    checked = check(write(tmp_path / "docs", files), parse({"model": "any"}))
    told = [(one.message, one.fix.partition(":")[0], one.places) for one in checked.of("warning")]
    assert told[:2] == [
        ("1 text looks like a secret", "The model would tell it to whoever asks",
         ("b.json:1: private key -----BEGIN PRIVATE KEY-----",)),
        ("1 private key in documents",
         "The key's own characters are left out, so no model learns them. Take it out all the same",
         ("a.md:5: private key -----BEGIN PRIVATE KEY-----",)),
    ]  # fmt: skip
    assert not any("MIIEvg" in row.answer for row in checked.rows if row.source.startswith("a.md"))
