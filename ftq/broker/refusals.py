"""What a broker that is there is or does when it takes nothing, by the words of its errors, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ftq.errors import first_line
from ftq.servers import without_password

_PRIMARY = "A failover passes. If it stays, FTQ_BROKER_URL has to name the primary: `redis-cli ROLE` says where it is."
_LOGIN = (
    "The file FTQ_BROKER_PASSWORD_FILE holds the password; FTQ_BROKER_URL=redis://HOST:6379/0 names no user where the "
    "server has none (requirepass), redis://USER@HOST:6379/0 one of its users."
)
_TLS = "If it stays so: does it want TLS (rediss://), a client's certificate (FTQ_BROKER_CERT_FILE), or is it no Redis?"
_CA = "FTQ_BROKER_CA_FILE names the certificate of the authority that signed it."
_CLUSTER = "FTQ_BROKER_URL has to name a single server."
_DISK = "Make room on its disk, or correct its folder's owner."
_MEMORY = "On the server: CONFIG SET maxmemory 0   (or more than it is)"
_REPLICAS = "CONFIG SET min-replicas-to-write 0, or start its replicas."
_PROTECTED = "Give it a password, see docs/security.md."
_KEY = "`ftq doctor` names the key, and what to type."
_NUMBER = "The number at the end of FTQ_BROKER_URL is 0 to 15."
LASTS, PASSES = True, False  # until somebody corrects a setting, here or there; or perhaps by itself
# What an error of the broker has in it -> (what the broker is or does, what to do, whether it lasts).
REFUSALS = (
    (r"\bREADONLY\b|\bUNBLOCKED\b", "is a read-only replica", _PRIMARY, PASSES),
    (r"\bMASTERDOWN\b", "is a replica that has lost its primary", _PRIMARY, PASSES),
    (r"\bLOADING\b", "is still reading its data from the disk", "It takes messages as soon as it has: wait.", PASSES),
    (r"\bMISCONF\b", "can't write its data to its disk", _DISK, PASSES),
    (r"\bOOM\b", "is full: its maxmemory is used up", _MEMORY, PASSES),
    (r"\bNOREPLICAS\b", "has too few replicas to write", _REPLICAS, PASSES),
    (r"\bNOAUTH\b", "wants a password", _LOGIN, LASTS),
    (r"\bWRONGPASS\b|invalid password|AUTH <password> called", "refuses the user or password", _LOGIN, LASTS),
    (r"\bNOPERM\b", "forbids its user what ftq needs", "docs/security.md has the rights that each part needs.", LASTS),
    (r"\bDENIED\b", "is in protected mode: it takes no other machine", _PROTECTED, LASTS),
    (r"\b(MOVED|ASK|CLUSTERDOWN|CROSSSLOT|TRYAGAIN)\b", "is a Redis Cluster, which Celery can't use", _CLUSTER, LASTS),
    (r"\bBUSY\b", "is busy with a script", "On the server: SCRIPT KILL", PASSES),
    (r"\bWRONGTYPE\b", "holds something else under a key of ftq's", _KEY, PASSES),
    (r"max number of clients", "has no connection left", "On the server: CONFIG SET maxclients 10000", PASSES),
    (r"DB index|invalid DB", "has no database of that number", _NUMBER, LASTS),
    (r"unknown command", "knows no queues: it is a Sentinel or a proxy", _CLUSTER, LASTS),
    (r"Protocol Error", "is no Redis server", "Compare the port in FTQ_BROKER_URL with the server's.", LASTS),
    (r"CERTIFICATE_VERIFY|certificate verify", "has a certificate that nobody vouches for", _CA, LASTS),
    (r"WRONG_VERSION|record layer", "doesn't speak TLS", "FTQ_BROKER_URL begins with redis:// then (one s).", LASTS),
    (r"closed by|reset by peer|EOF|Broken pipe|not connected|Err(or|no) (0|32|104)\b", "hangs up", _TLS, PASSES),
    (r"[Tt]imeout|[Tt]imed out", "doesn't answer", "Is it frozen, or without TLS (redis://, one s)?", PASSES),
)  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """`what` the broker is or does, the `fix`, and its own `words`. Without a fix nobody is there.

    One that `lasts` isn't mended by waiting.
    """

    what: str
    fix: str
    words: str
    lasts: bool = False


def refusal(error: BaseException) -> Refusal:
    """What an error of the broker means, kombu's or redis-py's."""
    chain = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    for link in reversed(chain):
        code = getattr(link, "status_code", None)  # redis-py takes the codes that it knows out of the text
        said = f"{code} {link}" if code and code != "ERR" else str(link)
        for mark, what, fix, lasts in REFUSALS:
            if re.search(mark, said):
                return Refusal(what, fix, without_password(first_line(link)), lasts)
    return Refusal("can't be reached", "", without_password(first_line(chain[-1])))
