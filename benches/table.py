"""Figures as lines of text: for the terminal, and for pages."""
from figures import ROWS
from goals import GOALS

VERDICTS = {True: "pass", False: "MISS", None: "not measured"}


def figures(results, targets):
    """A head, and a line for each row and statistic that has samples."""
    lines = [["", "unit", *(target.name for target in targets)]]
    for row in ROWS:
        if not results.samples.get(row.key):
            continue
        for statistic in row.statistics:
            cells = [cell(results, row, target.name, statistic) for target in targets]
            lines.append([row.line_title(statistic), row.unit, *cells])
    return lines


def cell(results, row, target, statistic):
    """The figure, its ratio to sshd's, and `~` where it was unsteady."""
    value = results.value(row.key, target, statistic)
    if value is None:
        return ""
    text = f"{value:.{row.digits}f}"
    if results.is_unsteady(row.key, target) and statistic == "p50":
        text = f"~{text}"
    ratio = results.ratio((row.key, target, statistic), (row.key, "sshd-host", statistic))
    if ratio is None or not row.compares or target == "sshd-host":
        return text
    return f"{text} ({ratio:.2f})"


def goals(results):
    lines = [["goal", "asked", "measured", ""]]
    for goal in GOALS:
        value = goal.measured(results)
        asked = f"{goal.sign} {goal.bound:g} {goal.unit}".strip()
        measured = "–" if value is None else f"{value:.2f} {goal.unit}".strip()
        lines.append([goal.title, asked, measured, VERDICTS[goal.verdict(results)]])
    return lines


def for_terminal(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(aligned(line, widths) for line in lines)


def aligned(line, widths):
    first, *rest = line
    return "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip()


def for_page(lines, of_text=False):
    head, *body = lines
    rule = ["---" if column < 1 or of_text else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *body])
