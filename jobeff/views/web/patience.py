"""Connections of the server: one on which nobody asks for anything in time is closed.

As many as may be open at once would else be enough to keep everybody out, and browsers open some just in case.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10
"""Seconds in which a first request has to be there whole; between two, uvicorn itself waits no longer than that."""


class Patience(H11Protocol):
    """A connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_S, self._asked_or_closed)

    def _asked_or_closed(self) -> None:
        if self.cycle is None:
            self.transport.close()
