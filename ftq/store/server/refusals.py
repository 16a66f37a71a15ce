"""What to do about an error of PostgreSQL, of its client or of PgBouncer, by the words that it has in it."""

from __future__ import annotations

import re

ALL_TAKEN = re.compile(
    "too many (clients|connections)|connection slots are reserved|no more connections allowed", re.IGNORECASE
)
ROOM = "All its connections are taken: wait, raise max_connections, or put PgBouncer before it (docs/deploy.md)."
FORM = "FTQ_DATABASE_URL=postgresql+psycopg://USER@HOST/ftq"
_LOGIN = f"{FORM} names the user, the file FTQ_DATABASE_PASSWORD_FILE holds the password."
_HBA = "On the server a line of pg_hba.conf lets a machine in: host DATABASE USER ADDRESS/32 scram-sha-256"
_TLS_ONLY = "If its line is hostssl, FTQ_DATABASE_URL ends with ?sslmode=require."
_CERTIFICATES = "?sslrootcert=FILE at the end of FTQ_DATABASE_URL names the authority, sslcert and sslkey your own."
_NO_TLS = "Take sslmode out of FTQ_DATABASE_URL, or set ssl = on in the server's postgresql.conf."
_NO_NAME = "Correct the host in FTQ_DATABASE_URL; a container's name is known to its neighbours only."
_NOBODY = (
    "Is the server up, and does it listen there? (listen_addresses; port 5432 unless FTQ_DATABASE_URL names another)"
)
_SILENT = "Is the machine up, and its firewall open? (port 5432 unless FTQ_DATABASE_URL names another)"
_CONNECT = r"On the server: GRANT CONNECT ON DATABASE \1 TO the user of FTQ_DATABASE_URL"
_OWNER = "The user needs tables of its own. On the server: ALTER DATABASE ... OWNER TO the user of FTQ_DATABASE_URL"
_PRIMARY = "It is a standby. FTQ_DATABASE_URL has to name the primary."
_POOLED = "PgBouncer doesn't know it: [databases] and auth_file in its configuration (docs/deploy.md)."
_NO_DRIVER = f"FTQ_DATABASE_URL begins with postgresql+psycopg:// or sqlite:///. For example: {FORM}"
ADVICE = (  # \1 is what stands in the brackets
    ("no password supplied", _LOGIN),
    ("(?:password|SASL) authentication failed", f"The user or the password is wrong. {_LOGIN}"),
    (r'role "(.*)" does not exist', r"On the server: CREATE ROLE \1 LOGIN PASSWORD '...'   (or name another user)"),
    (r'role "(.*)" is not permitted to log in', r"On the server: ALTER ROLE \1 LOGIN"),
    (r'database "(.*)" does not exist', r"On the server: CREATE DATABASE \1   (or name another one)"),
    (r'permission denied for database "(.*)"', _CONNECT),
    ("permission denied for (?:schema|table)|must be owner", _OWNER),
    (r"pg_hba\.conf.*no encryption", f"{_HBA}\n{_TLS_ONLY}"),
    (r"pg_hba\.conf", _HBA),
    ("no such (?:database|user)", _POOLED),
    ("does not support SSL", _NO_TLS),
    ("certificate", _CERTIFICATES),
    ("resolve host|Name or service not known", _NO_NAME),
    ("Connection refused", _NOBODY),
    ("on socket .*No such file", f"No server of this machine has that socket. One elsewhere: {FORM}"),
    ("timeout expired|timed out|[Uu]nreachable|No route", _SILENT),
    ("starting up|shutting down|not yet accepting|recovery mode", "Wait until it is up."),
    ("read-only transaction", _PRIMARY),
    ("invalid response|closed the connection unexpectedly", "Is that a PostgreSQL server? Compare the URL's port."),
    ("No module named", _NO_DRIVER),
)  # fmt: skip


def advice(cause: str) -> str:
    """What to type or to look at."""
    if ALL_TAKEN.search(cause):
        return ROOM
    for mark, fix in ADVICE:
        if match := re.search(mark, cause):
            return match.expand(fix)
    return f"Check that the server is there. {FORM}"
