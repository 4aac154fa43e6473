"""What stands before all pages, Datasette's too: who asks, whether they may, and what browsers must not do.

Whoever is not staff gets the pages named here and nothing else: what Datasette has, or will have some day, is refused
without being asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from jobeff.config import Config
from jobeff.views.web.access import EVERYBODY, Viewer, viewer

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
Refuse = Callable[[Scope, int, str, str], bytes]

FOR_PEOPLE = re.compile(
    rb"/|/search|/job/[^/]+/[^/]+(?:/why/[a-z_]+)?|/project/[^/]+|/user/[^/]+|/-/jobeff/jobeff\.(?:css|js)|/favicon\.ico"
)
"""Pages of our own, which ask themselves what of it somebody may see."""

ASSETS = re.compile(rb"/-/jobeff/jobeff\.(?:css|js)")
OURS = re.compile(FOR_PEOPLE.pattern + rb"|/tables")
OUR_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
THEIR_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Datasette's own pages have styles and scripts within them."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
LONGEST_NAME = 256


@dataclass(frozen=True)
class Door:
    """How people come in.

    Attributes
    ----------
    header
        Name of the header in which the site's login says who asks, in lower case; empty where nobody is told apart.
    proxies
        Addresses that are believed, besides this machine's own and those that come through a socket file.
    key
        Where nobody is told apart, what the address of the first page has to have; empty where a socket file's rights
        say who may come.
    port
        Tells cookies of one server from those of another on the same machine.
    """

    header: str = ""
    proxies: Sequence[str] = ()
    key: str = ""
    port: int = 0


class Guard:
    """Wraps the whole of what is served.

    Parameters
    ----------
    app
        Datasette.
    config, door
        Of the site; how people come in.
    refuse
        Makes the page that says no: of a request, with a status, a title and a text.
    base
        What all paths begin with, ``/`` at its end.
    """

    def __init__(self, app: App, config: Config, door: Door, refuse: Refuse, base: str = "/") -> None:
        self.app, self.config, self.door, self.refuse, self.base = app, config, door, refuse, base

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = self._path(scope)
        no = await self._enter(scope, path)
        if no is None:
            await self.app(scope, receive, _with_headers(send, path))
        else:
            await _answer(send, no)

    def _path(self, scope: Scope) -> bytes:
        """The path as Datasette reads it: not decoded, without what all begin with."""
        raw = scope.get("raw_path") or str(scope["path"]).encode("utf-8", "surrogateescape")
        path = bytes(raw).partition(b"?")[0]
        base = self.base.encode()
        return b"/" + path[len(base) :] if self.base != "/" and path.startswith(base) else path

    async def _enter(self, scope: Scope, path: bytes) -> tuple[int, bytes, list[tuple[bytes, bytes]]] | None:
        """Say who asks; or how they are refused."""
        if scope["method"] not in ("GET", "HEAD"):
            return self._no(scope, 405, "Only for reading", "Nothing can be changed here.")
        if ASSETS.fullmatch(path):  # pages that refuse have them too, and they say nothing of anybody
            return None
        if not self.door.header:
            scope["jobeff"] = EVERYBODY
            return self._by_key(scope)
        name = _only(scope, self.door.header.encode())
        if not self._believed(scope):
            return self._no(scope, 403, "Not this way", "Only the site's login may connect to this port.")
        if name is None:
            return self._no(scope, 403, "Who are you?", "The site's login has not said who asks.")
        someone = await asyncio.to_thread(viewer, self.config, name)
        scope["jobeff"] = someone
        if someone.everything or FOR_PEOPLE.fullmatch(path):
            return None
        return self._no(scope, 403, "Not for you", "Tables and queries are for the site's staff.")

    def _believed(self, scope: Scope) -> bool:
        """Whether whoever has connected may say in a header who asks."""
        client = scope.get("client")
        if not client or not client[0]:  # a socket file, whose rights say who may connect
            return True
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return bool(mapped.is_loopback) or str(mapped) in self.door.proxies

    def _by_key(self, scope: Scope) -> tuple[int, bytes, list[tuple[bytes, bytes]]] | None:
        """Other people of this machine can connect as well, and pages elsewhere could have a browser do so."""
        if not self.door.key:
            return None
        host = (_only(scope, b"host") or "").rpartition(":")[0] or (_only(scope, b"host") or "")
        if host.lower() not in LOOPBACK_NAMES:
            return self._no(scope, 403, "Not this way", "This server has no such name.")
        cookie = f"jobeff_{self.door.port}"
        if _same(parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0], self.door.key):
            kept = f"{cookie}={self.door.key}; Path=/; HttpOnly; SameSite=Strict".encode("latin-1")
            return 303, b"", [(b"location", self.base.encode()), (b"set-cookie", kept)]
        if _same(_cookie(scope, cookie), self.door.key):
            return None
        text = (
            "Use the address that 'jobeff serve' has printed; it holds a key, since others can log in to this machine."
        )
        return self._no(scope, 403, "The key is missing", text)

    def _no(self, scope: Scope, status: int, title: str, text: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        kind = [(b"content-type", b"text/html; charset=utf-8")]
        return status, self.refuse(scope, status, title, text), kind


def _only(scope: Scope, name: bytes) -> str | None:
    """The value of a header; None where it is missing, empty, or there twice, as when somebody adds their own."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    if len(values) != 1:
        return None
    text = bytes(values[0]).decode("utf-8", "replace").strip()
    return text if text and len(text) <= LONGEST_NAME and text.isprintable() else None


def _same(given: str, key: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), key.encode())


def _cookie(scope: Scope, name: str) -> str:
    try:
        found = SimpleCookie(_only(scope, b"cookie") or "").get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def someone(scope: Scope) -> Viewer:
    """Who asks.

    Parameters
    ----------
    scope
        Of a request that has passed the guard.

    Returns
    -------
    Viewer
        One who may see nothing where the guard has not said.
    """
    found = scope.get("jobeff")
    return found if isinstance(found, Viewer) else Viewer()


def _headers(ours: bool) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", (OUR_POLICY if ours else THEIR_POLICY).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
    ]


def _with_headers(send: Any, path: bytes) -> Any:
    """Have every answer tell browsers where nothing may come from, and that nobody else may keep it."""

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            new = _headers(bool(OURS.fullmatch(path)))
            if not ASSETS.fullmatch(path):
                new.append((b"cache-control", b"private, no-store"))
            names = {name for name, _ in new}
            kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
            message = {**message, "headers": [*kept, *new]}
        await send(message)

    return wrapped


async def _answer(send: Any, no: tuple[int, bytes, list[tuple[bytes, bytes]]]) -> None:
    status, body, headers = no
    headers = [*headers, (b"cache-control", b"private, no-store"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_headers(True)]})
    await send({"type": "http.response.body", "body": body})
