"""The command that shows it all in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobeff.cli.options import PATH, Options, cli, print_json

if TYPE_CHECKING:
    from jobeff.views.web.serve import Ask


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="Port to listen on; 0: a free one."
)
@click.option("--socket", "socket_file", type=PATH, metavar="FILE", help="Listen on a socket file instead of a port.")
@click.option("--user-header", metavar="NAME", default="", help="Header in which the site's login says who asks.")
@click.option("--proxy", "proxies", multiple=True, metavar="ADDRESS", help="The login's address, on another machine.")
@click.option("--base-url", default="/", show_default=True, metavar="PATH", help="What all addresses begin with.")
@click.pass_obj
def serve(
    options: Options,
    host: str,
    port: int,
    socket_file: Path | None,
    user_header: str,
    proxies: tuple[str, ...],
    base_url: str,
) -> None:
    """Serve the databases and pages of jobs, projects and users to browsers, for reading only.

    Without --user-header all may be seen by whoever opens the address that is printed: on this machine only, with a key
    in it, since others may be logged in too. With it, behind the site's own login, people see their own jobs and the
    projects they are members of; users that the configuration lists as 'staff' see all, and the tables. The header is
    believed from this machine, a socket file or --proxy only. docs/web.md has a whole example. Ctrl-C ends it.

    With jobeff --json, one object is printed before it begins: url.

    \b
    Examples:
      jobeff serve
      ssh -L 8001:localhost:8001 cluster     and open the printed address here
      jobeff serve --socket /run/jobeff/web.sock --user-header X-Remote-User
    """
    from jobeff.views.web import serve as web

    base = f"/{base_url.strip('/')}/" if base_url.strip("/") else "/"
    ask = web.Ask(host, port, socket_file, user_header, proxies, base)
    web.check(ask)
    key = "" if user_header or socket_file else web.new_key()
    config = options.load()
    with web.listen(ask) as opened:
        if socket_file is None:
            ask = web.Ask(host, opened.getsockname()[1], None, user_header, proxies, base)
        made = web.make(config, ask, key)
        where = _address(ask, key)
        if options.json:
            print_json({"url": where})
        elif not options.quiet or key:
            click.echo(f"serving {where}   (Ctrl-C ends it)")
        if user_header and socket_file is None:
            text = "whoever is logged in to this machine can pretend to be anybody; --socket leaves them out"
            click.echo(f"jobeff: warning: {text}", err=True)
        web.run(made, opened, ask)


def _address(ask: Ask, key: str) -> str:

    if ask.socket is not None:
        return f"{ask.socket}, addresses begin with {ask.base}"
    host = f"[{ask.host}]" if ":" in ask.host else ask.host
    return f"http://{host}:{ask.port}{ask.base}{f'?key={key}' if key else ''}"
