"""What is wrong, and what to do, for an error of PostgreSQL, its client or PgBouncer, by the words that it has."""

from __future__ import annotations

import re

FORM = "FTQ_DATABASE_URL=postgresql+psycopg://USER@HOST/ftq"  # wherever a hint shows what it looks like
_LOGIN = f"{FORM} names the user, the file FTQ_DATABASE_PASSWORD_FILE holds the password."
_HBA = (
    "On the server a line of pg_hba.conf lets a machine in: host DATABASE USER ADDRESS/32 scram-sha-256   "
    f"({FORM} names user, server and database)"
)
_TLS_ONLY = f"{_HBA}\nIf its line is hostssl, FTQ_DATABASE_URL ends with ?sslmode=require."
_AUTHORITY = "?sslrootcert=FILE at the end of FTQ_DATABASE_URL names the certificate of the authority that signed it."
_CLIENT = "?sslcert=FILE&sslkey=FILE at the end of FTQ_DATABASE_URL name the certificate and the key of this machine."
_NO_TLS = "Take sslmode out of FTQ_DATABASE_URL, or set ssl = on in the server's postgresql.conf."
_NO_NAME = "Correct the host in FTQ_DATABASE_URL; a container's name is known to its neighbours only."
_NOBODY = (
    "Is the server up, and does it listen there? (listen_addresses; port 5432 unless FTQ_DATABASE_URL names another)"
)
_SILENT = (
    "Is the machine up, its firewall open, and PostgreSQL what listens there? "
    "(port 5432 unless FTQ_DATABASE_URL names another)"
)
_HANGS_UP = (
    "Does it restart? If it stays so, a proxy, port forward or load balancer has no server behind it, or it is no "
    "PostgreSQL server: compare host and port in FTQ_DATABASE_URL."
)
_CONNECT = r"On the server: GRANT CONNECT ON DATABASE \1 TO the user of FTQ_DATABASE_URL"
_OWNER = "The user needs tables of its own. On the server: ALTER DATABASE ... OWNER TO the user of FTQ_DATABASE_URL"
_PRIMARY = "FTQ_DATABASE_URL has to name the primary, and its database mustn't have default_transaction_read_only."
_POOLED = "[databases] and auth_file in PgBouncer's configuration have those of FTQ_DATABASE_URL (docs/deploy.md)."
_UP = "Wait until it is up. If it stays so, see the server's log, or name another one in FTQ_DATABASE_URL."
ROOM = "Wait, raise max_connections, or put PgBouncer before it and name that in FTQ_DATABASE_URL (docs/deploy.md)."
_DISK = "Make room on the disk of the server in FTQ_DATABASE_URL."
_TAIL = "Correct what stands after the `?` of FTQ_DATABASE_URL, or after the host's name."
_NO_PACKAGE = "FTQ_DATABASE_URL names PostgreSQL: pip install 'psycopg[binary]'   (requirements/postgres.txt)"
_NO_DRIVER = f"FTQ_DATABASE_URL begins with postgresql+psycopg:// or sqlite:///. For example: {FORM}"
ALL_TAKEN = re.compile(
    "(?i:too many (?:clients|connections)|connection slots are reserved|no more connections allowed)"
)
# (words of the error, what is wrong, what to type or to look at); \1 is what stands in the brackets
REFUSALS = (
    (ALL_TAKEN.pattern, "all its connections are taken", ROOM),
    ("no password supplied", "it wants a password", _LOGIN),
    ("(?:password|SASL) authentication failed", "it refuses the user or the password", _LOGIN),
    (r'role "(.*)" does not exist', r"it has no user \1",
     r"On the server: CREATE ROLE \1 LOGIN PASSWORD '...'   (or name another user in FTQ_DATABASE_URL)"),
    (r'role "(.*)" is not permitted to log in', r"its user \1 may not log in",
     r"On the server: ALTER ROLE \1 LOGIN   (or name another user in FTQ_DATABASE_URL)"),
    (r'database "(.*)" does not exist', r"the server has no database \1",
     r"On the server: CREATE DATABASE \1   (or name another one in FTQ_DATABASE_URL)"),
    (r'permission denied for database "(.*)"', r"its user may not enter the database \1", _CONNECT),
    ("permission denied for|must be owner", "its user may not make or use the tables there", _OWNER),
    (r"pg_hba\.conf.*no encryption", "it refuses this machine, or wants TLS", _TLS_ONLY),
    (r"pg_hba\.conf", "it refuses this machine", _HBA),
    ("no such (?:database|user)", "PgBouncer doesn't know the user or the database", _POOLED),
    ("does not support SSL", "it has no TLS, and sslmode wants it", _NO_TLS),
    ("requires a valid client certificate", "it wants a certificate of this machine", _CLIENT),
    ("does not match host name", "its certificate is for another host", _NO_NAME),
    ("certificate", "nobody vouches for its certificate", _AUTHORITY),
    ("resolve host|Name or service not known|name resolution", "no machine of that name is known", _NO_NAME),
    ("Connection refused", "nobody listens at that address and port", _NOBODY),
    ("on socket .*No such file", "no server of this machine has that socket", f"One elsewhere: {FORM}"),
    ("timeout expired|timed out|[Uu]nreachable|No route", "the machine can't be reached", _SILENT),
    ("idle-in-transaction", "this process stood still too long", "Try again: the server of FTQ_DATABASE_URL is up."),
    ("starting up", "it is starting", _UP),
    ("shutting down|terminating connection", "it is stopping", _UP),
    ("accepting connections|recovery mode", "it recovers, or is a standby", _UP),
    ("read-only transaction", "nothing can be written there: it is a standby, or set to be read only", _PRIMARY),
    ("No space left", "the server's disk is full", _DISK),
    ("invalid response", "that is no PostgreSQL server", _HANGS_UP),
    ("closed the connection unexpectedly|reset by peer", "it takes connections and hangs up", _HANGS_UP),
    ("invalid (?:sslmode|connection option|port|integer|value)|extra key", "the URL has something wrong in it", _TAIL),
    ("No module named 'psycopg'", "the package psycopg isn't installed here", _NO_PACKAGE),
    ("No module named|Can't load plugin|Could not parse", "ftq knows no such database", _NO_DRIVER),
)  # fmt: skip


def refusal(cause: str) -> tuple[str, str]:
    """(what is wrong, what to type or to look at). Where the words are new, the first is empty."""
    for mark, what, fix in REFUSALS:
        if match := re.search(mark, cause):
            return match.expand(what), match.expand(fix)
    return "", f"Check that the server is there. {FORM}"
