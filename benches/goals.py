"""What the figures have to show."""
import operator
from dataclasses import dataclass

# The launcher decides, not the way in; the first of these that was measured counts.
EXEC = ("cold-exec", "warm-exec")
INIT = ("cold-init", "warm-init")
OURS = (*EXEC, *INIT)
SSHD = ("sshd-host",)
SIGNS = {"≤": operator.le, "≥": operator.ge}


@dataclass
class Goal:
    title: str
    sign: str
    bound: float
    # (row, targets, statistic); a ratio if there are two.
    value: tuple
    base: tuple = None
    unit: str = ""

    def measured(self, results):
        value = first_of(results, *self.value)
        if self.base is None or value is None:
            return value
        base = first_of(results, *self.base)
        return value / base if base else None

    def verdict(self, results):
        """None where it was not measured."""
        value = self.measured(results)
        return None if value is None else SIGNS[self.sign](value, self.bound)


def first_of(results, row, targets, statistic="p50"):
    values = (results.value(row, target, statistic) for target in targets)
    return next((value for value in values if value is not None), None)


def to_sshd(title, sign, bound, row, targets, statistic="p50"):
    return Goal(title, sign, bound, (row, targets, statistic), (row, SSHD, statistic))


def to_raw(title, bound, direction, cipher="aes256-gcm"):
    return Goal(title, "≥", bound, (f"{direction} {cipher}", EXEC), (f"{direction} raw", ("docker-exec",)))


GOALS = [
    to_sshd("login, warm, init, to sshd", "≤", 0.15, "login", ("warm-init",)),
    to_sshd("login, warm, exec, to sshd", "≤", 0.6, "login", ("warm-exec",)),
    *(
        Goal(f"login, cold, {launcher}, to `docker run --rm`", "≤", 0.9, ("login", (f"cold-{launcher}",)),
             ("login", ("docker-run",)))
        for launcher in ("exec", "init")
    ),
    Goal("next command, init", "≤", 5, ("next", INIT), unit="ms"),
    to_sshd("download, init, aes256-gcm, to sshd", "≥", 1.1, "download aes256-gcm", INIT),
    to_sshd("download, init, chacha20-poly1305, to sshd", "≥", 1.1, "download chacha20-poly1305", INIT),
    to_sshd("upload, init, aes256-gcm, to sshd", "≥", 1.3, "upload aes256-gcm", INIT),
    to_sshd("upload, init, chacha20-poly1305, to sshd", "≥", 1.3, "upload chacha20-poly1305", INIT),
    *(
        to_sshd(f"forwarded download, init, {cipher}, to sshd", "≥", 1, f"forwarded {cipher}", INIT)
        for cipher in ("aes256-gcm", "chacha20-poly1305")
    ),
    to_raw("download, exec, aes256-gcm, to `docker exec`", 0.5, "download"),
    to_raw("upload, exec, aes256-gcm, to `docker exec`", 0.6, "upload"),
    to_sshd("keystroke echo p50, init, to sshd", "≤", 1.2, "keystroke", INIT),
    *(
        to_sshd(f"CPU of the server per login, {target}, to sshd", "≤", 0.1, "login cpu", (target,), "mean")
        for target in OURS
    ),
    Goal("memory per idle connection", "≤", 64, ("memory each", OURS), unit="KiB"),
    Goal("32 clients at once, warm, init: failures", "≤", 0, ("clients 32 failed", ("warm-init",), "sum")),
    Goal("32 clients at once, warm, init: p90 to p50 of one", "≤", 5, ("clients 32", ("warm-init",), "p90"),
         ("clients 1", ("warm-init",), "p50")),
]
