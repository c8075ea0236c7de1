"""What every request must satisfy, and what every answer says to a browser.

A page of another origin must not use the server through its visitor's browser:
its requests are told by their `Origin`, and one whose name was pointed at this
machine (DNS rebinding) by the `Host` that it names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mt3.web.refusals import error_response

_READING = ("GET", "HEAD", "OPTIONS")
_FRIENDLY_SITES = ("same-origin", "none")
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "worker-src 'self'",
            "img-src 'self' data: blob:",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses foreign requests, and adds the headers above to each answer."""

    def __init__(self, app: ASGIApp, *, host: str, names: Iterable[str] = ()) -> None:
        """Args:
        app: what is guarded.
        host: the address that the server listens at.
        names: host names that it is also reached by.
        """
        self._app = app
        self._is_loopback = _is_loopback(host)
        self._names = {"localhost", host.lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope["method"], Headers(scope=scope))
        app = self._app if problem is None else error_response(403, problem)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await app(scope, receive, send_with_headers)

    def _problem(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                f"this server is not {host[:100]!r}; start it with --allow-host if it is reached by that name"
            )
        if method in _READING:
            return None
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") not in _FRIENDLY_SITES:
            return "requests from pages of other origins are not answered"
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this server.

        An address cannot be a name that was pointed here: beyond loopback, each is taken.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        return _is_loopback(name) if self._is_loopback else _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
