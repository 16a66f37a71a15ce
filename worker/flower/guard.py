"""Who gets into Flower. As it comes, it leaves /metrics, /login and static files open and answers any host name."""

from __future__ import annotations

import hmac
import ipaddress
from base64 import b64encode
from typing import Any

from flower import urls
from flower.views.auth import LoginHandler
from flower.views.monitor import Healthcheck
from tornado.web import StaticFileHandler, url


def install(logins: list[str], hosts: str) -> None:
    """Ask for one of the logins on every route. `hosts` are this server's host names, separated by commas.

    /healthcheck, which says "OK" and nothing else, needs no login: a container's health check has none.
    """
    keys = [b"Basic " + b64encode(login.encode()) for login in logins]
    names = {"localhost", *(name.strip().lower() for name in hosts.split(",") if name.strip())}
    routes = [route for route in urls.handlers if _handler(route) is not LoginHandler]  # it serves OAuth only
    urls.handlers[:] = [_guarded_route(route, keys, names) for route in routes]
    urls.settings["static_handler_class"] = _guarded(StaticFileHandler, keys, names)


def _handler(route: Any) -> Any:
    return getattr(route, "handler_class", None) or route[1]


def _guarded_route(route: Any, keys: list[bytes], names: set[str]) -> Any:
    handler = _guarded(_handler(route), [] if _handler(route) is Healthcheck else keys, names)
    if isinstance(route, url):
        route.handler_class = route.target = handler
        return route
    return (route[0], handler, *route[2:])


def _guarded(handler: Any, keys: list[bytes], names: set[str]) -> Any:
    class Guarded(handler):  # type: ignore[misc]
        def prepare(self) -> Any:
            self.set_header("X-Frame-Options", "DENY")  # another site's page could lure a click onto Terminate
            sent = self.request.headers.get("Authorization", "").encode()
            if not _is_ours(self.request.host_name, names):
                return _refuse(self, 403, f"{self.request.host_name}: not a name of this server (FTQ_FLOWER_HOSTS)")
            if keys and not any([hmac.compare_digest(sent, key) for key in keys]):
                self.set_header("WWW-Authenticate", 'Basic realm="ftq"')
                return _refuse(self, 401, "Login needed")
            return super().prepare()

    return Guarded


def _is_ours(host: str, names: set[str]) -> bool:
    """Whether the host is an address or one of this server's names. Other names may point here (DNS rebinding)."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() in names
    return True


def _refuse(handler: Any, status: int, text: str) -> None:
    handler.set_status(status)
    handler.set_header("Content-Type", "text/plain; charset=UTF-8")
    handler.finish(text)
