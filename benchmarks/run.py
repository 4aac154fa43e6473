"""The whole benchmark; see benchmarks/run."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from jobeff.bench import run

HERE = Path(__file__).parent
BEGIN, END = "<!-- written by benchmarks/run -->", "<!-- until here -->"


def main() -> None:
    """Run, print, and write the figures down."""
    parent, *days = sys.argv[1:]
    lengths = tuple(map(int, days)) or (24, 96, 128, 384)
    # 4 GB, which other engines have the memory for.
    size = run.Size(days=lengths, repeat=3, peers=128 if 128 in lengths else lengths[0])
    Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        found = run.run(Path(folder), size, lambda what: print(f"... {what}", flush=True))
    found["date"] = run.stamp()
    lines = run.lines(found)
    print("\n".join(lines))
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    readme = HERE.parent / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text("\n".join([f"{before}{BEGIN}", f"Measured {found['date']}.", *lines, f"{END}{after}"]))


if __name__ == "__main__":
    main()
