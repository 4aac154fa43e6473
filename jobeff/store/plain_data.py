"""Plain data as JSON, for those who go on with it on another machine: nothing that is read can run anything."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

KIND = "~"


class Coder:
    """Writes and reads values made of some classes, numbers, texts, lists, sets, dictionaries and paths.

    Parameters
    ----------
    kinds
        The data classes and named tuples that may occur.
    """

    def __init__(self, *kinds: type) -> None:
        self._kinds = {kind.__name__: kind for kind in kinds}

    def dumps(self, value: Any) -> bytes:
        """Write a value.

        Parameters
        ----------
        value
            Plain data.

        Returns
        -------
        bytes
            JSON; tuples become lists.
        """
        return json.dumps(self._written(value)).encode()

    def loads(self, text: bytes) -> Any:
        """Read a value.

        Parameters
        ----------
        text
            From `dumps`.

        Returns
        -------
        object
            The same, but for tuples.
        """
        return self._read(json.loads(text))

    def _written(self, value: Any) -> Any:
        name = type(value).__name__
        if isinstance(value, Path):
            return {KIND: "Path", "value": str(value)}
        if isinstance(value, set | Counter):
            return {KIND: name, "value": sorted(value) if isinstance(value, set) else dict(value)}
        if is_dataclass(value) and self._kinds[name]:
            return {KIND: name, "value": {one.name: self._written(getattr(value, one.name)) for one in fields(value)}}
        if hasattr(value, "_asdict") and self._kinds[name]:
            return {KIND: name, "value": {key: self._written(one) for key, one in value._asdict().items()}}
        if isinstance(value, dict):
            return {KIND: "dict", "value": {key: self._written(one) for key, one in value.items()}}
        if isinstance(value, list | tuple):
            return [self._written(one) for one in value]
        return value.item() if hasattr(value, "item") else value

    def _read(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._read(one) for one in value]
        if not isinstance(value, dict):
            return value
        name, inner = value[KIND], value["value"]
        simple = {"Path": Path, "set": set, "Counter": Counter}.get(name)
        if simple is not None:
            return simple(inner)
        read = {key: self._read(one) for key, one in inner.items()}
        return read if name == "dict" else self._kinds[name](**read)
