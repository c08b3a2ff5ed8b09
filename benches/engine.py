"""The container engine, as its own client sees it."""
import json
import subprocess
import threading
import time

from processes import Failed, Kept

GUEST = "coracle/guest:latest"
GUEST_SSHD = "coracle/guest-sshd:latest"
# Every container of a run carries it, so that all can be found at the end.
LABEL = "coracle.bench"
LABEL_INSTANCE = "coracle.instance"


def docker(*words, timeout=60):
    ended = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if ended.returncode != 0:
        raise Failed(f"docker {words[0]}: {ended.stderr.strip()}")
    return ended.stdout.strip()


def has_image(image):
    try:
        return bool(docker("image", "inspect", "--format", "{{.Id}}", image))
    except Failed:
        return False


class Events:
    """What becomes of this run's containers. The engine tells it, since asking would be measured, too."""

    def __init__(self, folder, run):
        self.changed = threading.Condition()
        # By instance: the containers that run, and when others were gone, in seconds since 1970.
        self.running = {}
        self.gone = {}
        words = ["docker", "events", "--since", str(int(time.time())), "--format", "{{json .}}"]
        for word in ("type=container", f"label={LABEL}={run}", "event=start", "event=die", "event=destroy"):
            words += ["--filter", word]
        self.process = Kept(folder, words, stdout=subprocess.PIPE)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.process.stdout:
            event = json.loads(line)
            instance = event["Actor"]["Attributes"].get(LABEL_INSTANCE, "")
            with self.changed:
                running = self.running.setdefault(instance, set())
                if event["Action"] == "start":
                    running.add(event["id"])
                else:
                    running.discard(event["id"])
                if event["Action"] == "destroy":
                    self.gone.setdefault(instance, []).append(event["timeNano"] / 1e9)
                self.changed.notify_all()

    def gone_of(self, instance):
        with self.changed:
            return list(self.gone.get(instance, []))

    def wait(self, instance, running, gone, seconds):
        """Until so many run and so many have gone since the start. Tells whether it came to that."""
        def reached():
            return len(self.running.get(instance, ())) == running and len(self.gone.get(instance, ())) >= gone

        with self.changed:
            return self.changed.wait_for(reached, seconds)

    def end(self):
        self.process.end()
