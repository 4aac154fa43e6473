"""What `jobeff size` says of three sites, and what they take in fact; see benchmarks/size."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jobeff.bench import calibrate, history
from jobeff.bench.size import of_site, predict
from jobeff.engine.pool import default_workers

DAYS = 24
BASE_NODES, BASE_JOBS = 62, 1500
NIGHTS = calibrate.NIGHTS


def main() -> None:
    """Make the sites, and print predicted, measured and error."""
    parent, *factors = sys.argv[1:]
    costs = calibrate.costs(lambda what: print(f"... {what}", flush=True), again=True)
    print(costs)
    workers = default_workers()
    print(f"| {'site':<4} | {'what':<16} | {'predicted':>10} | {'measured':>10} | {'error':>6} |")
    print(f"|{'-' * 6}|{'-' * 18}|{'-' * 11}:|{'-' * 11}:|{'-' * 7}:|", flush=True)
    for factor in map(int, factors or ("1", "4", "16")):
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            root, shape = Path(folder) / "site", history.Shape(BASE_NODES * factor, BASE_JOBS * factor)
            found = calibrate.measure(root, shape, DAYS, workers)
            load = of_site(root, history.CLUSTER, history.INTERVAL)
            assert load is not None
            said, whole = predict(load, DAYS, workers, costs), predict(load, DAYS + NIGHTS, workers, costs)
        for name, predicted, measured, unit in (
            ("archive, MB", whole.archive / 1e6, found.text / 1e6, 0),
            ("shards, MB", whole.shards / 1e6, found.shard_bytes / 1e6, 1),
            ("databases, MB", whole.databases / 1e6, found.database_bytes / 1e6, 0),
            ("memory, MB", said.memory_mb, found.memory, 0),
            ("rebuild, s", said.rebuild_s, found.rebuild, 1),
            ("compute --all, s", said.recompute_s, found.recompute, 1),
            ("a night, s", said.night_s, found.night, 1),
        ):
            error = 100 * (predicted / measured - 1)
            print(
                f"| {factor:>3}x | {name:<16} | {predicted:>10,.{unit}f} | {measured:>10,.{unit}f} | {error:>+5.0f}% |"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
