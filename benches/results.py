"""What was measured: for each row and target its samples; and what is made of them."""
import math

# Quartiles this far apart, as a share of the median, and a figure is called unsteady.
UNSTEADY = 0.25


class Results:
    def __init__(self):
        self.samples = {}

    def add(self, row, target, value):
        self.samples.setdefault(row, {}).setdefault(target, []).append(value)

    def value(self, row, target, statistic="p50"):
        """None when there is none."""
        samples = self.samples.get(row, {}).get(target)
        return STATISTICS[statistic](samples) if samples else None

    def ratio(self, over, under):
        """Of two (row, target, statistic)."""
        above, below = self.value(*over), self.value(*under)
        return above / below if above is not None and below else None

    def is_unsteady(self, row, target):
        samples = self.samples.get(row, {}).get(target, [])
        middle = percentile(samples, 50) if len(samples) >= 3 else 0
        return middle > 0 and (percentile(samples, 75) - percentile(samples, 25)) / middle > UNSTEADY

    def summary(self):
        return {row: {name: summarise(samples) for name, samples in of.items()} for row, of in self.samples.items()}


def percentile(samples, percent):
    """Between the two nearest samples."""
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


STATISTICS = {
    "p50": lambda samples: percentile(samples, 50),
    "p90": lambda samples: percentile(samples, 90),
    "p99": lambda samples: percentile(samples, 99),
    "mean": lambda samples: sum(samples) / len(samples),
    "sum": sum,
}


def summarise(samples):
    percents = {f"p{percent}": percentile(samples, percent) for percent in (25, 50, 75, 90, 99)}
    return {"n": len(samples), "mean": sum(samples) / len(samples), **percents, "samples": samples}
