"""CPU time and memory of processes, from /proc."""
import os
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """Of a living process with all of its threads, to the nanosecond: /proc/PID/stat counts in ticks of 10 ms."""
    scheduler_clock = (~pid << 3) | 2
    try:
        return time.clock_gettime(scheduler_clock)
    except OSError:
        return 0.0


def children_cpu_seconds(pid):
    """Of the children that a process has waited for, and theirs. In ticks, but added up from nanoseconds."""
    fields = stat(pid)
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_SECOND if fields else 0.0


def machine_cpu_seconds():
    """Of everything, since the machine was started: not idle, not waiting for a disk, not stolen."""
    user, nice, system, _, _, interrupts, soft_interrupts, *_ = machine_ticks()
    return (user + nice + system + interrupts + soft_interrupts) / TICKS_PER_SECOND


def stolen_seconds():
    """What the machine's own host took away."""
    return machine_ticks()[7] / TICKS_PER_SECOND


def machine_ticks():
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def memory_bytes(pids):
    """Proportional, so that what processes share counts once."""
    return sum(proportional_bytes(pid) for pid in pids)


def proportional_bytes(pid):
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def with_descendants(pid):
    children = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := stat(entry.name):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def stat(pid):
    """From the state on, which is the third field of proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
