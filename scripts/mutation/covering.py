"""Which tests run through a line, by the data of scripts/coverage."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import coverage
from mutation.faults import ROOT, Fault

DATA = ROOT / ".venv" / "coverage"


class Tests:
    """Which tests run through a line, and how long each takes."""

    def __init__(self, run: str, seconds: float) -> None:
        self._data = coverage.CoverageData(str(DATA / f"{run}.all"))
        self._data.read()
        self._files = {str(Path(file)): file for file in self._data.measured_files()}
        self._limit = seconds
        self._seconds: dict[str, float] = defaultdict(float)
        for case in ET.parse(DATA / f"{run}.xml").iter("testcase"):  # noqa: S314  (pytest has written it here)
            name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name', '').partition('[')[0]}"
            self._seconds[name] += float(case.get("time", 0))

    def of(self, fault: Fault) -> list[str]:
        """The quickest tests that run through a fault, as pytest wants them."""
        lines = self._data.contexts_by_lineno(self._files.get(str(ROOT / fault.path), ""))
        contexts = set(lines.get(fault.line, []))
        if contexts == {""}:  # run when the module is imported, as constants are: by all that use the module
            contexts = set(itertools.chain.from_iterable(lines.values()))
        names = {".".join(context.split(".")[-2:]) for context in contexts if context}
        known = sorted((self._seconds[name], name) for name in names if name in self._seconds)
        chosen, total = [], 0.0
        for seconds, name in known:
            total += seconds
            if chosen and total > self._limit:
                break
            module, _, function = name.partition(".")
            chosen.append(f"tests/{module}.py::{function}")
        return chosen
