"""A line of the table."""
from dataclasses import dataclass


@dataclass
class Row:
    key: str
    title: str
    unit: str
    meaning: str
    # One line each.
    statistics: tuple = ("p50",)
    digits: int = 1
    # Whether a ratio to sshd says anything.
    compares: bool = True

    def line_title(self, statistic):
        several = len(self.statistics) > 1
        return f"{self.title}, {statistic}" if several else self.title
