"""One module per figure: `ROWS` of the table, and `measure(bench)` which fills them."""
from figures import clients, forward, keystroke, login, memory, next_command, transfer, writes

# In the order in which they are measured and shown.
FIGURES = {
    "login": login, "next": next_command, "keystroke": keystroke, "transfer": transfer, "forward": forward,
    "writes": writes, "clients": clients, "memory": memory,
}
ROWS = [row for figure in FIGURES.values() for row in figure.ROWS]
