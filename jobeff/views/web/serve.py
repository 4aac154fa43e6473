"""The server: Datasette with our pages, listening on this machine alone or behind the site's own login."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobeff.config import Config
from jobeff.errors import ConfigError, JobeffError, shown
from jobeff.store import tables
from jobeff.views.web import render

SOCKET_MASK = 0o117
"""Of a socket file: owner and group may connect."""

SHUTDOWN_S = 2
SETTINGS = {
    "allow_download": False,
    "suggest_facets": False,  # they would be counted over all jobs
    "default_cache_ttl": 0,
    "sql_time_limit_ms": 5000,
    "max_csv_mb": 500,
}


@dataclass(frozen=True)
class Ask:
    """How to serve.

    Attributes
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    socket
        A socket file to listen on instead; None for none.
    user_header
        In which header the site's login says who asks; empty where nobody is told apart.
    proxies
        Addresses of the site's login, where it is on another machine.
    base
        What all paths begin with.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    socket: Path | None = None
    user_header: str = ""
    proxies: Sequence[str] = ()
    base: str = "/"


def check(ask: Ask) -> None:
    """Refuse what would show people's activity to whoever can reach a port.

    Parameters
    ----------
    ask
        How to serve.

    Raises
    ------
    ConfigError
        With what to do instead.
    """
    for proxy in ask.proxies:
        try:
            ipaddress.ip_address(proxy)
        except ValueError as error:
            raise ConfigError(f"{shown(proxy)!r} is no address", todo="Give --proxy as 10.0.0.5") from error
    if ask.user_header and not all(c.isalnum() or c == "-" for c in ask.user_header):
        raise ConfigError(f"{shown(ask.user_header)!r} is no name of a header", todo="Give one such as X-Remote-User")
    if ask.socket is not None or _is_loopback(ask.host):
        return
    if not ask.user_header:
        why = "all who reach that address would see what everybody runs, without a login"
        todo = "Serve on 127.0.0.1 and use 'ssh -L', or put the site's login before it with --user-header"
        raise ConfigError(f"not serving on {shown(ask.host)}", why=why, todo=todo)
    if not ask.proxies:
        why = "the header is believed from this machine alone, so nobody could use it"
        todo = "Name the login's address with --proxy, or serve on 127.0.0.1 or --socket beside it"
        raise ConfigError(f"not serving on {shown(ask.host)}", why=why, todo=todo)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make(config: Config, ask: Ask, key: str = "") -> Any:
    """The application.

    Parameters
    ----------
    config
        Of the site.
    ask
        How to serve.
    key
        That the first address has to have; empty for none.

    Returns
    -------
    Datasette
        With our pages; `app` of it is what a server calls.

    Raises
    ------
    JobeffError
        Datasette is not installed, or a database is missing.
    """
    try:
        from datasette.app import Datasette  # noqa: PLC0415  (an extra)
        from datasette.plugins import pm  # noqa: PLC0415
        from datasette.views import base  # noqa: PLC0415
    except ImportError as error:
        raise render.missing(error) from error
    from jobeff.views.web import databases, plugin  # noqa: PLC0415  (they import Datasette)
    from jobeff.views.web.guard import Door  # noqa: PLC0415
    from jobeff.views.web.sheets import Sheets  # noqa: PLC0415

    for name in ("accounting", "efficiency"):
        tables.read_database(tables.database(config.root, name), name).close()  # tells what is wrong with it
    # Else it writes all variables of a request that fails to the log, with who asked and what for.
    pm.get_plugin("datasette.handle_exception").rich = None
    base.csv = Sheets
    if not pm.is_registered(plugin):
        pm.register(plugin, "jobeff")
    door = Door(ask.user_header.lower(), tuple(ask.proxies), key, ask.port)

    class Ours(Datasette):  # type: ignore[misc]
        """Datasette of one site."""

        jobeff = plugin.Ours(config, door)

    made = Ours([], memory=False, metadata=databases.metadata(), settings={**SETTINGS, "base_url": ask.base})
    if "_memory" in made.databases:
        made.remove_database("_memory")
    databases.follow(made, config)
    return made


def listen(ask: Ask) -> socket.socket:
    """Open the port, or the socket file.

    Parameters
    ----------
    ask
        How to serve.

    Returns
    -------
    socket.socket
        Listening; whoever connects now is answered once the server runs.

    Raises
    ------
    JobeffError
        It is taken, or there is no such address.
    """
    where = str(ask.socket) if ask.socket else f"{ask.host}:{ask.port}"
    try:
        return _of_file(ask.socket) if ask.socket else _of_port(ask.host, ask.port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        todo = "Is it running already? Else choose another with --port or --socket" if taken else ""
        why = error.strerror or str(error)
        raise JobeffError("cannot serve", where=shown(where), why=why, safe="Nothing was changed", todo=todo) from error


def _of_port(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def _of_file(path: Path) -> socket.socket:
    """A socket file that nobody answers on is what a killed server has left."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, "there is a file that is no socket", str(path))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                if other.connect_ex(str(path)) == 0:
                    raise OSError(errno.EADDRINUSE, "Address already in use", str(path))
            path.unlink()
        before = os.umask(SOCKET_MASK)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def new_key() -> str:
    """Something that nobody can guess.

    Returns
    -------
    str
        For an address.
    """
    return secrets.token_urlsafe(24)


def run(made: Any, opened: socket.socket, ask: Ask) -> None:
    """Serve until a signal ends it.

    Parameters
    ----------
    made
        From `make`.
    opened
        From `listen`.
    ask
        How to serve.
    """
    import uvicorn  # noqa: PLC0415  (comes with Datasette)

    from jobeff.views.web.patience import Patience  # noqa: PLC0415  (it imports uvicorn)

    # Who has connected is asked of the connection, not of a header that anybody can send.
    settings = uvicorn.Config(
        made.app(), http=Patience, log_level="warning", proxy_headers=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=SHUTDOWN_S, limit_concurrency=200, ws="none",
    )  # fmt: skip
    try:
        uvicorn.Server(settings).run(sockets=[opened])
    finally:
        opened.close()
        if ask.socket is not None:
            ask.socket.unlink(missing_ok=True)
