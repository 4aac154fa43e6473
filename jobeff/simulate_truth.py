"""The true efficiency row of a synthetic job, straight from its samples: nothing of the engine is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from jobeff.simulate_jobs import Attempt
from jobeff.simulate_usage import INTERVAL_S, NO_READING, Samples

DEFINITION = 1


def efficiency_row(
    cluster: str, attempt: Attempt, seen: Mapping[str, Samples], rejected: int, date_finished: str
) -> dict[str, object]:
    """Compute one row of ``efficiency/jobs``.

    Parameters
    ----------
    cluster
        Name of the cluster.
    attempt
        The job.
    seen
        Its valid samples by node, in order of the node list; at least one node, each with a sample.
    rejected
        Number of invalid rows in the job's files on its nodes.
    date_finished
        Local day of its end.

    Returns
    -------
    dict
        Columns by name. Memory in GiB, cpu in percent; ``mem_limit`` is None where it is unknown.
    """
    nodes = list(seen.values())
    counts = [len(samples.time) for samples in nodes]
    values = sum(samples.cores.size for samples in nodes)
    busy = sum(int(samples.cores.sum()) for samples in nodes)
    expected = max(1, (attempt.end - attempt.start) // INTERVAL_S)
    peak, limit = _peak_and_limit(nodes)
    return {
        "job_id": attempt.job_id,
        "cluster": cluster,
        "proj_id": attempt.project,
        "user": attempt.user,
        "cpu_mean": busy / (10 * max(values, max(counts) * attempt.cores)),
        "cpu_cores_used_percentile": float(np.percentile(_busy_cores(attempt.start, nodes, 10.0), 75)),
        "cores": attempt.cores,
        "mem_peak": peak / 10,
        "mem_median": float(np.median(np.concatenate([samples.used for samples in nodes]))) / 10,
        "mem_limit": limit / 10 if limit else None,
        "counts": max(counts),
        "state": attempt.state,
        "date_finished": date_finished,
        "nodelist": ",".join(attempt.nodes),
        "start": attempt.start,
        "end": attempt.end,
        "nodes_booked": len(attempt.nodes),
        "nodes_seen": len(nodes),
        "coverage": sum(min(count, expected) for count in counts) / (expected * len(attempt.nodes)),
        "rejected": rejected,
        "swap_peak": max(int(samples.swap.max()) for samples in nodes) / 10,
        "cores_used_peak": max(_busy_cores(attempt.start, nodes, 3.0)),
        "definition": DEFINITION,
    }


def _peak_and_limit(nodes: Sequence[Samples]) -> tuple[int, int]:
    """Tenths of GiB, both of the node that came nearest to its limit."""
    pairs = []
    for samples in nodes:
        has_maximum = samples.max_used != NO_READING
        largest = max(int(samples.used.max()), int(samples.max_used[has_maximum].max(initial=0)))
        pairs.append((largest, int(samples.limit.max())))
    # max() takes the first of equals, as the definition wants
    return max(pairs, key=lambda pair: (pair[1] > 0, pair[0] / pair[1] if pair[1] else pair[0]))


def _busy_cores(start: int, nodes: Sequence[Samples], above_pct: float) -> list[int]:
    """Busy cores at each sampling time, summed over nodes."""
    total: Counter[int] = Counter()
    for samples in nodes:
        first = int(samples.time[0])
        slots = np.rint((samples.time - first) / INTERVAL_S).astype(np.int64) + max(0, first - start) // INTERVAL_S
        busy = np.count_nonzero(samples.cores > 10 * above_pct, axis=1)
        total.update(dict(zip(slots.tolist(), busy.tolist(), strict=True)))
    return list(total.values())
