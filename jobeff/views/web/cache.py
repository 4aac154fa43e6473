"""Pages that are kept while the databases stay as they are: made once, however many ask at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

from jobeff.config import Config
from jobeff.store import tables

KEPT = 200
SOURCES = ("accounting", "efficiency", "projects", "current_projects")


def stamp(config: Config) -> Hashable:
    """What changes when what pages show can have changed.

    Parameters
    ----------
    config
        Of the site.

    Returns
    -------
    tuple
        The day, and of each database which file it is, its size and when it was written.
    """
    return (config.today, *(_of_file(config, name) for name in SOURCES))


def _of_file(config: Config, name: str) -> tuple[int, int, int] | None:
    try:
        about = tables.database(config.root, name).stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


class Cache:
    """Keeps the newest pages, at most `KEPT`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A page, made where it is not kept.

        Parameters
        ----------
        key
            Which, with a `stamp`.
        make
            Makes it; what it raises is not kept.

        Returns
        -------
        object
            What `make` gave, to this thread or to another that came first.
        """
        with self._lock:
            found = self._pages.get(key)
            mine = found is None
            future: Future[Any] = Future() if found is None else found
            self._pages[key] = future
            self._pages.move_to_end(key)
            while len(self._pages) > KEPT:
                self._pages.popitem(last=False)
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._lock:
                    self._pages.pop(key, None)
                future.set_exception(error)
        return future.result()
