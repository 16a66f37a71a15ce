"""Who is told what happens to runs, and whether that can be sent from here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from ftq.doctor.findings import Finding
from ftq.errors import UserError
from ftq.notify.addresses import addresses
from ftq.notify.send import INSTALL, MISSING, problem


def notify(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Nothing where nobody is to be told. The workers send, with their own environment."""
    try:
        known = addresses(environ)
    except UserError as error:
        yield Finding("notify", "problem", error.message, error.hint)
        return
    for address in known:
        why = problem(address)
        if why == MISSING:
            yield Finding("notify", "problem", f"{address.shown}: apprise isn't installed here", INSTALL)
        elif why:
            yield Finding(
                "notify", "problem", f"{address.shown}: {why}", "https://appriseit.com has each service's form"
            )
        else:
            yield Finding("notify", "ok", f"{address.shown} is told; `ftq notify --test` tries it")
