"""What a real PostgreSQL server refuses: the error says why, and the hint what to type."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cli.main import main
from ftq.doctor.client import checks
from ftq.doctor.database import database as doctor
from ftq.doctor.findings import examine
from ftq.errors import Unavailable
from ftq.settings import Settings
from ftq.store import schema
from ftq.store.server.refusals import FORM, REFUSALS, refusal
from ftq.store.store import RunStore
from tests import database_server
from tests.tools import PATIENCE, Bench, free_port, until

LOGIN = f"{FORM} names the user, the file FTQ_DATABASE_PASSWORD_FILE holds the password."
HBA = (
    "On the server a line of pg_hba.conf lets a machine in: host DATABASE USER ADDRESS/32 scram-sha-256   "
    f"({FORM} names user, server and database)"
)
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


UP = "Wait until it is up. If it stays so, see the server's log, or name another one in FTQ_DATABASE_URL."
WRONG = "it refuses the user or the password"
TLS_ONLY = f"{HBA}\nIf its line is hostssl, FTQ_DATABASE_URL ends with ?sslmode=require."


@pytest.mark.parametrize(
    ("rest", "what", "says", "hint"),
    [
        ("ftq:wrong@PLACE/mine", WRONG, 'password authentication failed for user "ftq"', LOGIN),
        ("nobody:pw@PLACE/mine", WRONG, 'password authentication failed for user "nobody"', LOGIN),
        ("ftq@PLACE/mine", "it wants a password", "no password supplied", LOGIN),
        ("PLACE/mine", "it wants a password", "no password supplied", LOGIN),
        ("asleep:pw@PLACE/mine", "its user asleep may not log in", 'role "asleep" is not permitted to log in',
         "On the server: ALTER ROLE asleep LOGIN   (or name another user in FTQ_DATABASE_URL)"),
        ("ftq:pw@PLACE/missing", "the server has no database missing", 'database "missing" does not exist',
         "On the server: CREATE DATABASE missing   (or name another one in FTQ_DATABASE_URL)"),
        ("guest:pw@PLACE/private", "its user may not enter the database private",
         'permission denied for database "private"',
         "On the server: GRANT CONNECT ON DATABASE private TO the user of FTQ_DATABASE_URL"),
        ("guest:pw@PLACE/mine", "its user may not make or use the tables there", "permission denied for schema public",
         "The user needs tables of its own. On the server: ALTER DATABASE ... OWNER TO the user of FTQ_DATABASE_URL"),
        ("ftq:pw@PLACE/closed", "it refuses this machine, or wants TLS", "pg_hba.conf rejects connection", TLS_ONLY),
        ("ftq:pw@PLACE/tls?sslmode=disable", "it refuses this machine, or wants TLS", "no encryption", TLS_ONLY),
        ("ftq:pw@PLACE/mine?sslmode=require", "it has no TLS, and sslmode wants it",
         "server does not support SSL, but SSL was required",
         "Take sslmode out of FTQ_DATABASE_URL, or set ssl = on in the server's postgresql.conf."),
        ("ftq:pw@PLACE/mine?sslmode=perhaps", "the URL has something wrong in it", 'invalid sslmode value: "perhaps"',
         "Correct what stands after the `?` of FTQ_DATABASE_URL, or after the host's name."),
        ("ftq:pw@PLACE/mine?colour=red", "the URL has something wrong in it", 'invalid connection option "colour"',
         "Correct what stands after the `?` of FTQ_DATABASE_URL, or after the host's name."),
        ("guest:pw@PLACE/crowded", "all its connections are taken", 'too many connections for database "crowded"',
         "Wait, raise max_connections, or put PgBouncer before it and name that in FTQ_DATABASE_URL (docs/deploy.md)."),
        ("ftq:pw@no-such-host.invalid/mine", "no machine of that name is known", "no-such-host.invalid",
         "Correct the host in FTQ_DATABASE_URL; a container's name is known to its neighbours only."),
        ("ftq:pw@127.0.0.1:1/mine", "nobody listens at that address and port", "Connection refused",
         "Is the server up, and does it listen there? "
         "(listen_addresses; port 5432 unless FTQ_DATABASE_URL names another)"),
        ("ftq@/mine?host=/nowhere", "no server of this machine has that socket", "No such file or directory",
         f"One elsewhere: {FORM}"),
    ],
)  # fmt: skip
def test_it_is_told_what_is_refused_and_what_to_type(
    place: str, rest: str, what: str, says: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 1 if "crowded" in rest else 60)  # that one is waited for
    message, said = refused(rest.replace("PLACE", place))
    assert message.startswith("database postgresql+psycopg://") and f" can't be used: {what} (" in message
    assert says in message
    assert ":pw@" not in message and ":wrong@" not in message
    assert said == hint


def test_every_hint_names_the_variable_and_none_the_password() -> None:
    for mark, what, fix in REFUSALS:
        assert what and "FTQ_DATABASE_URL" in fix, mark
    assert {form for _, _, fix in REFUSALS for form in re.findall(r"FTQ_DATABASE_URL=\S+", fix)} == {FORM}


SILENT = (
    "Is the machine up, its firewall open, and PostgreSQL what listens there? "
    "(port 5432 unless FTQ_DATABASE_URL names another)"
)


def test_a_server_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 2)  # libpq's least
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message, hint = refused(f"ftq:pw@127.0.0.1:{silent.getsockname()[1]}/mine")
    assert "the machine can't be reached (connection timeout expired)" in message and hint == SILENT


def test_a_firewall_that_drops_everything_and_the_doctor_blames_nobody_else(bench: Bench) -> None:
    """A full queue of connections: the system drops what comes, as a firewall does."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(server.getsockname()))
        place = f"127.0.0.1:{server.getsockname()[1]}"
        settings = dataclasses.replace(bench.settings, database_url=f"postgresql+psycopg://ftq:pw@{place}/mine")
        findings = list(examine(checks(settings, "http://127.0.0.1:1"), PATIENCE))
    (problem,) = [one for one in findings if one.level == "problem"]
    shown = f"postgresql+psycopg://ftq:***@{place}/mine"
    told = f"database {shown} can't be used: the machine can't be reached (connection timeout expired)"
    assert (problem.check, problem.message, problem.fix) == ("database", told, SILENT)
    assert {one.level for one in findings if one.check == "broker"} <= {"ok", "warning"}
    assert [one.message for one in findings if one.check == "workers"] == ["unknown: the database can't be read"]


def test_a_forwarded_port_with_no_server_behind_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as forward:
        hangs_up = threading.Thread(target=_hang_up, args=(forward,))
        hangs_up.start()
        message, hint = refused(f"ftq:pw@127.0.0.1:{forward.getsockname()[1]}/mine")
        forward.shutdown(socket.SHUT_RDWR)
        hangs_up.join()
    assert "it takes connections and hangs up (" in message
    assert "a proxy, port forward or load balancer has no server behind it" in hint


def _hang_up(forward: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = forward.accept()
            connection.recv(1)
            connection.close()


def test_what_is_right_is_refused_nothing_and_a_user_missing_at_a_socket_is_named(place: str) -> None:
    assert refused(f"ftq:pw@{place}/mine") == ("", "")
    what, fix = refusal('FATAL:  role "root" does not exist')
    assert what == "it has no user root" and fix.startswith("On the server: CREATE ROLE root LOGIN PASSWORD")
    assert refusal("No module named 'psycopg'")[0] == "the package psycopg isn't installed here"
    assert refusal("No module named 'psycopg2'")[0] == "ftq knows no such database"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_each_scheme_of_postgresql_is_taken(place: str, home: Path, scheme: str) -> None:
    url = f"{scheme}://ftq:pw@{place}/mine"
    settings = Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": url})
    assert settings.database_url == f"postgresql+psycopg://ftq:pw@{place}/mine"
    with contextlib.closing(RunStore(settings.database_url)) as store:
        assert store.all() == []


def test_a_database_that_may_only_be_read_is_told_when_something_is_written(place: str) -> None:
    url = f"postgresql+psycopg://ftq:pw@{place}/mine"
    with contextlib.closing(RunStore(url)):
        pass
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.exec_driver_sql("ALTER DATABASE mine SET default_transaction_read_only = on")
    try:
        with contextlib.closing(RunStore(url)) as store, pytest.raises(Unavailable) as caught:
            store.see_worker("w1", "box", ["cpu"], None, 1)
    finally:
        with engine.connect() as db:
            db.exec_driver_sql("SET default_transaction_read_only = off")
            db.exec_driver_sql("ALTER DATABASE mine RESET default_transaction_read_only")
        engine.dispose()
    assert "nothing can be written there: it is a standby, or set to be read only (cannot execute" in str(caught.value)
    assert "FTQ_DATABASE_URL has to name the primary" in caught.value.hint


@pytest.mark.slow
def test_a_server_that_starts_stops_recovers_or_has_a_certificate(tmp_path: Path) -> None:
    """One server, brought from state to state."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl: apt-get install openssl")
    port = free_port()
    with database_server.start("127.0.0.1", port) as url:
        rest = url.partition("://")[2]
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as db:
            data = Path(str(db.exec_driver_sql("SHOW data_directory").scalar()))
            db.exec_driver_sql("ALTER ROLE ftq PASSWORD 'pw'")
            certify(data)
            db.exec_driver_sql("ALTER SYSTEM SET ssl = on")
            db.exec_driver_sql("SELECT pg_reload_conf()")
        name = ["-o", f"-c listen_addresses=127.0.0.1 -p {port} -k {data.parent} -F"]

        ours = f"ftq:pw@127.0.0.1:{port}/postgres?sslmode=verify-ca&sslrootcert="
        authority = until(lambda: "does not support SSL" not in refused(f"{ours}/nowhere")[0] and refused(
            f"{ours}/nowhere"))  # fmt: skip
        assert "nobody vouches for its certificate (" in authority[0] and "?sslrootcert=FILE" in authority[1]
        other = f"ftq:pw@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={data}/server.crt"
        assert "its certificate is for another host (" in refused(other)[0]

        with engine.connect() as db:
            db.exec_driver_sql("SELECT 1")  # whoever is there is waited for
            database_server.control(data, "-m", "smart", "--no-wait", "stop")
            assert until(lambda: refused(rest))[1] == UP
            assert "it is stopping (" in refused(rest)[0]
        until(lambda: not (data / "postmaster.pid").exists())

        (data / "standby.signal").touch()
        shutil.chown(data / "standby.signal", data.owner())
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'sleep 600'\n")
        database_server.control(data, "--no-wait", *name, "start")
        assert "it is starting (" in until(lambda: "starting up" in refused(rest)[0] and refused(rest))[0]
        database_server.control(data, "-m", "immediate", "stop")
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = ''\nhot_standby = off\n")
        database_server.control(data, "--no-wait", *name, "start")
        message, hint = until(lambda: "not accepting" in refused(rest)[0] and refused(rest))
        assert "it recovers, or is a standby (" in message and hint == UP
        engine.dispose()


def certify(data: Path) -> None:
    """Give the server a certificate of its own making, for another host."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=other.example"]
    subprocess.run([*command, "-keyout", data / "server.key", "-out", data / "server.crt"], check=True,
                   capture_output=True, timeout=PATIENCE)  # fmt: skip
    (data / "server.key").chmod(0o600)
    for file in ("server.key", "server.crt"):
        shutil.chown(data / file, data.owner())


def test_doctor_and_status_say_the_same(place: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql+psycopg://ftq:wrong@{place}/mine"
    (problem,) = doctor(Settings.from_env({"FTQ_HOME": str(home), "FTQ_DATABASE_URL": url}))
    monkeypatch.setenv("FTQ_DATABASE_URL", url)
    status = CliRunner().invoke(main, ["status"])
    assert problem.fix == LOGIN
    assert status.stderr == f"Error: {problem.message}\n{problem.fix}\n"


def test_only_a_file_is_asked_to_be_writable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        schema.open_engine(f"sqlite:///{tmp_path}/none/x.db")
    assert caught.value.hint == "Check FTQ_DATABASE_URL, and that its folder is there and writable."
    assert not [fix for _, _, fix in REFUSALS if "writable" in fix or "folder" in fix]
    for url in ("nonsense", "mysql://a@h/x", "postgresql+asyncpg://a@h/x"):
        with pytest.raises(Unavailable) as caught:
            schema.open_engine(url)
        assert caught.value.hint.endswith(FORM)
