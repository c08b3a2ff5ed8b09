"""The machine, the programs on it, and whether it was quiet."""
import os
import platform
import subprocess
import time
from datetime import date
from pathlib import Path

from consumption import TICKS_PER_SECOND, machine_cpu_seconds, name_of, stat
from engine import docker

# As a share of all cores.
BUSY = 0.1
LOOK_SECONDS = 1.0


def describe(binary):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "date": date.today().isoformat(),
        "CPU": model_of_cpu(),
        "cores": os.cpu_count(),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "engine": docker("version", "--format", "{{.Server.Platform.Name}} {{.Server.Version}}").strip(),
        "OpenSSH": said_by("ssh", "-V").split(",")[0].removeprefix("OpenSSH_"),
        "server": f"{said_by(binary, '--version')}, {build_of(binary)}",
    }


def build_of(binary):
    """By the folder that cargo puts it in."""
    folder = Path(binary).resolve().parent.name
    return f"{folder} build" if folder in ("release", "debug") else "a build of its own"


def said_by(*words):
    ended = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10)
    return (ended.stdout or ended.stderr).strip().splitlines()[0]


def model_of_cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def look_around():
    """What runs while we do nothing, and our servers have nothing to do."""
    machine, processes = machine_cpu_seconds(), ticks_of_processes()
    time.sleep(LOOK_SECONDS)
    share = (machine_cpu_seconds() - machine) / LOOK_SECONDS / os.cpu_count()
    after = ticks_of_processes()
    used = {pid: after[pid] - processes.get(pid, 0) for pid in after if pid != os.getpid()}
    most = sorted(used, key=used.get, reverse=True)[:3]
    busy = [f"{name_of(pid)} {used[pid] / TICKS_PER_SECOND / LOOK_SECONDS:.0%}" for pid in most if used[pid] > 1]
    return {"load": round(os.getloadavg()[0], 2), "busy": share, "busiest": busy}


def warnings(looks):
    """A line for each moment at which others were at work, too."""
    for when, look in looks.items():
        if look["busy"] > BUSY:
            busiest = ", ".join(look["busiest"]) or "many small ones"
            yield f"the machine was not quiet {when}: {look['busy']:.0%} of its CPU was taken by others ({busiest})"


def ticks_of_processes():
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := stat(entry.name):
            found[int(entry.name)] = int(fields[11]) + int(fields[12])
    return found
