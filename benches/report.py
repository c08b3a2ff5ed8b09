"""What a run ends with: a table on the terminal, and files."""
import json

import page
import table

LEGEND = "In parentheses: ratio to sshd-host. ~: the middle half of the samples is more than a quarter of the median wide."


def show(bench, about):
    print(table.for_terminal(table.figures(bench.results, bench.targets)))
    print(f"\n{LEGEND}\n")
    head, *goals = table.goals(bench.results)
    measured = [line for line in goals if line[-1] != table.VERDICTS[None]]
    print(table.for_terminal([head, *measured]))
    if len(measured) < len(goals):
        print(f"{len(goals) - len(measured)} of {len(goals)} goals were not measured")
    loads = [look["load"] for look in about["looks"].values()]
    print(f"\ntook {about['seconds']:.0f} s; load average {loads[0]} before, {loads[-1]} after")
    for line in about["warnings"]:
        print(f"WARNING: {line}")


def write(bench, about, arguments):
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(bench, about), indent=1, ensure_ascii=False) + "\n")
    if arguments.write:
        arguments.write.write_text(page.render(bench, about))


def as_json(bench, about):
    goals = [dict(zip(("goal", "asked", "measured", "verdict"), line)) for line in table.goals(bench.results)[1:]]
    targets = {target.name: target.about for target in bench.targets}
    return {**about, "targets": targets, "skipped": bench.skipped, "goals": goals, "figures": bench.results.summary()}
