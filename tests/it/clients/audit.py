"""What ssh-audit has against the server: a line for each failure and warning."""
import sys
import json
import subprocess

host, port = sys.argv[1:3]

audit = subprocess.run(
    [sys.executable, "-m", "ssh_audit", "--json", "--skip-rate-test", "-p", port, host],
    stdout=subprocess.PIPE, timeout=60,
)
report = json.loads(audit.stdout)
for section in ("kex", "key", "enc", "mac"):
    if not report[section]:
        sys.exit(f"no {section} in {report}")
    for algorithm in report[section]:
        for severity in ("fail", "warn"):
            for words in algorithm["notes"].get(severity, []):
                print(f"{severity} {section} {algorithm['algorithm']}: {words}")
for found in report.get("cves", []):
    print(f"fail cve {found}")
