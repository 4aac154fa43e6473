"""What tests say of a fault."""

from __future__ import annotations

from collections.abc import Callable

KINDS = ("seen", "hangs", "not seen", "no test", "fails to run")
Result = tuple[str, str]
"""One of these; the test that has seen it, or else nothing."""


def tried(tests: list[str], attempt: Callable[[list[str], bool], Result]) -> Result:
    """What tests say of a fault, without those that fail without it too."""
    while tests:
        what, by = attempt(tests, True)
        test = by.partition("[")[0]
        if what != "seen" or test not in tests or attempt([test], False)[0] == "not seen":
            return what, by
        tests = [other for other in tests if other != test]
    return "no test", ""
