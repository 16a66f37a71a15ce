"""What a real PostgreSQL server refuses: the error says why, and the hint what to type."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cli.main import main
from ftq.doctor.database import database as doctor
from ftq.errors import Unavailable
from ftq.settings import Settings
from ftq.store import schema
from ftq.store.server.refusals import ADVICE, FORM, ROOM, advice
from tests import database_server
from tests.tools import free_port, until

LOGIN = f"{FORM} names the user, the file FTQ_DATABASE_PASSWORD_FILE holds the password."
HBA = "On the server a line of pg_hba.conf lets a machine in: host DATABASE USER ADDRESS/32 scram-sha-256"
RULES = "local all all trust\nhost closed all all reject\nhostssl tls all all scram-sha-256\nhost tls all all reject\n"
MADE = (
    "ALTER ROLE ftq PASSWORD 'pw'",
    "CREATE ROLE asleep NOLOGIN PASSWORD 'pw'",
    "CREATE ROLE guest LOGIN PASSWORD 'pw'",
    *(f"CREATE DATABASE {name}" for name in ("closed", "tls", "private", "mine")),
    "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
    "CREATE DATABASE crowded CONNECTION LIMIT 0",
)


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """The address of a server that asks for passwords. Its database `mine` is ftq's, `tls` wants what it hasn't."""
    port = free_port()
    with database_server.start("127.0.0.1", port) as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as db:
            for statement in MADE:
                db.exec_driver_sql(statement)
            rules = Path(str(db.exec_driver_sql("SHOW hba_file").scalar()))
            rules.write_text(f"{RULES}host all all all scram-sha-256\n")
            db.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()
        until(lambda: "password authentication failed" in refused(f"ftq:wrong@127.0.0.1:{port}/mine")[0])
        yield f"127.0.0.1:{port}"


def refused(rest: str) -> tuple[str, str]:
    """(message, hint) for the database at the rest of its URL; both empty if it can be used."""
    try:
        schema.open_engine(f"postgresql+psycopg://{rest}").dispose()
    except Unavailable as error:
        return error.message, error.hint
    return "", ""


@pytest.mark.parametrize(
    ("rest", "says", "hint"),
    [
        ("ftq:wrong@PLACE/mine", 'password authentication failed for user "ftq"',
         f"The user or the password is wrong. {LOGIN}"),
        ("nobody:pw@PLACE/mine", 'password authentication failed for user "nobody"',
         f"The user or the password is wrong. {LOGIN}"),
        ("ftq@PLACE/mine", "no password supplied", LOGIN),
        ("PLACE/mine", "no password supplied", LOGIN),
        ("asleep:pw@PLACE/mine", 'role "asleep" is not permitted to log in', "On the server: ALTER ROLE asleep LOGIN"),
        ("ftq:pw@PLACE/missing", 'database "missing" does not exist',
         "On the server: CREATE DATABASE missing   (or name another one)"),
        ("guest:pw@PLACE/private", 'permission denied for database "private"',
         "On the server: GRANT CONNECT ON DATABASE private TO the user of FTQ_DATABASE_URL"),
        ("guest:pw@PLACE/mine", "permission denied for schema public",
         "The user needs tables of its own. On the server: ALTER DATABASE ... OWNER TO the user of FTQ_DATABASE_URL"),
        ("ftq:pw@PLACE/closed", "pg_hba.conf rejects connection",
         f"{HBA}\nIf its line is hostssl, FTQ_DATABASE_URL ends with ?sslmode=require."),
        ("ftq:pw@PLACE/tls?sslmode=disable", "no encryption",
         f"{HBA}\nIf its line is hostssl, FTQ_DATABASE_URL ends with ?sslmode=require."),
        ("ftq:pw@PLACE/mine?sslmode=require", "server does not support SSL, but SSL was required",
         "Take sslmode out of FTQ_DATABASE_URL, or set ssl = on in the server's postgresql.conf."),
        ("guest:pw@PLACE/crowded", 'too many connections for database "crowded"', ROOM),
        ("ftq:pw@no-such-host.invalid/mine", "no-such-host.invalid",
         "Correct the host in FTQ_DATABASE_URL; a container's name is known to its neighbours only."),
        ("ftq:pw@127.0.0.1:1/mine", "Connection refused",
         "Is the server up, and does it listen there? "
         "(listen_addresses; port 5432 unless FTQ_DATABASE_URL names another)"),
        ("ftq@/mine?host=/nowhere", "No such file or directory",
         f"No server of this machine has that socket. One elsewhere: {FORM}"),
    ],
)  # fmt: skip
def test_the_hint_names_what_to_type(
    place: str, rest: str, says: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 1)  # a crowded one is waited for
    message, said = refused(rest.replace("PLACE", place))
    assert message.startswith("database postgresql+psycopg://") and says in message
    assert ":pw@" not in message and ":wrong@" not in message
    assert said == hint


def test_a_server_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 2)  # libpq's least
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message, hint = refused(f"ftq:pw@127.0.0.1:{silent.getsockname()[1]}/mine")
    assert "timeout expired" in message and hint.startswith("Is the machine up, and its firewall open?")


def test_what_is_right_is_refused_nothing_and_a_user_missing_at_a_socket_is_named(place: str) -> None:
    assert refused(f"ftq:pw@{place}/mine") == ("", "")
    assert advice('FATAL:  role "root" does not exist').startswith("On the server: CREATE ROLE root LOGIN PASSWORD")


def test_doctor_and_status_say_the_same(place: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql+psycopg://ftq:wrong@{place}/mine"
    (problem,) = doctor(Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": url}))
    monkeypatch.setenv("FTQ_DATABASE_URL", url)
    status = CliRunner().invoke(main, ["status"])
    assert problem.fix == f"The user or the password is wrong. {LOGIN}"
    assert status.stderr == f"Error: {problem.message}\n{problem.fix}\n"


def test_only_a_file_is_asked_to_be_writable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        schema.open_engine(f"sqlite:///{tmp_path}/none/x.db")
    assert caught.value.hint == "Check FTQ_DATABASE_URL, and that its folder is there and writable."
    assert not [fix for _, fix in ADVICE if "writable" in fix or "folder" in fix]
    for url in ("nonsense", "mysql://a@h/x", "postgresql+asyncpg://a@h/x"):
        with pytest.raises(Unavailable) as caught:
            schema.open_engine(url)
        assert caught.value.hint.endswith(FORM)
