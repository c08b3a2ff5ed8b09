"""docs/performance.md: the last run, and what its numbers mean."""
import table
from figures import ROWS

HEAD = """# Performance

`script/bench` measures this server side by side with OpenSSH's `sshd` and with the bare engine: one run, one machine, in
turns. `script/bench --write` makes this page of a run; `--help` tells what else it takes. Ratios travel from machine to
machine, milliseconds do not.
"""

METHOD = """## How it is measured

- **In turns.** A round measures every target once, then the next round begins, so that drift hits all alike. The first
  round does not count. Figures are medians unless the line says otherwise; `--json` keeps every sample.
- **Alike.** The same OpenSSH client, curve25519-sha256, an Ed25519 host key and user key, no compression, aes256-gcm unless
  the line says otherwise, over the loopback. The servers have the defaults of their configuration but for what makes the
  target. Containers come from the guest image and have the engine's bridge network.
- **Not while others work.** After each login the bench waits until all that it left behind is done: sshd's processes have
  ended, containers are gone, the pool is full. The engine's events tell so; nothing is polled.
- **Once per launcher.** How somebody got in makes no difference to what follows on a connection. Such figures are in the
  column of the first target with that launcher.
- **Not quite alike.** In our containers the user is root with bash as the shell, where sshd's user has dash, which starts
  faster; sshd has no PAM, which Debian's default has. Both are to sshd's advantage.
"""

NOTHING = "No run has been written here yet.\n"


def render(bench, report):
    parts = [HEAD, "## The last run\n", last_run(bench, report) if report else NOTHING]
    parts += [METHOD, "## What each number means\n", meanings()]
    return "\n".join(parts)


def last_run(bench, report):
    lines = [[key, str(value)] for key, value in report["machine"].items()]
    looks = list(report["looks"].values())
    busy = [look["busy"] for look in looks]
    lines += [
        ["load average", f"{looks[0]['load']} before, {looks[-1]['load']} after"],
        ["CPU taken by others", f"{min(busy):.0%} to {max(busy):.0%}, seen {len(busy)} times between the figures"],
        ["downloads and uploads", f"{report['transfer bytes'] / (1 << 20):g} MiB each"],
        ["taken by the machine's own host", f"{report['stolen seconds']:.1f} s"],
        ["the run took", f"{report['seconds']:.0f} s{', --quick' if bench.quick else ''}"],
    ]
    machine = table.for_page([["what", ""], *lines], of_text=True)
    # Who it was is nobody's business but that of whoever ran it.
    warnings = "".join(f"\n**Warning**: {line.split(' (')[0]}.\n" for line in report["warnings"])
    return "\n".join([
        machine, warnings, "### Goals\n", table.for_page(table.goals(bench.results)), "", "### Figures\n",
        "In parentheses: the ratio to `sshd-host`. `~`: the middle half of the samples is more than a quarter of the median "
        "wide.\n", table.for_page(table.figures(bench.results, bench.targets)), "", targets(bench),
    ])


def targets(bench):
    lines = [f"- **{target.name}**: {target.about}" for target in bench.targets]
    lines += [f"- {name} was skipped: {why}" for name, why in bench.skipped.items()]
    return "\n".join(lines) + "\n"


def meanings():
    """Rows that mean the same follow one another."""
    lines, last = [], None
    for row in ROWS:
        if last and last.meaning == row.meaning:
            lines[-1][0].append(row.title)
        else:
            lines.append(([row.title], row.meaning))
        last = row
    body = [[" · ".join(titles), meaning] for titles, meaning in lines]
    return table.for_page([["figure", "meaning"], *body], of_text=True) + "\n"
