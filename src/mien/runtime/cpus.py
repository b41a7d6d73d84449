"""How many CPUs there are to compute with."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use, at least 1: its affinity, or the quota of its container where that is less.

    A quota of 1.5 CPUs counts as 2. `docker run --cpus` and Kubernetes' `limits.cpu` set one; `cgroup` is where the
    kernel tells of it.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, _quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """CPUs that the control group may keep busy (cgroup-v2 and sched-bwc of the kernel's documentation)."""
    unified, legacy = cgroup / "cpu.max", cgroup / "cpu"
    try:
        if unified.exists():
            quota_us, period_us = unified.read_text(encoding="ascii").split()
        else:
            quota_us = (legacy / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period_us = (legacy / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
    except OSError:  # no Linux, no control group, or not to be read: no limit is known
        return math.inf
    return math.inf if quota_us in ("max", "-1") else int(quota_us) / int(period_us)
