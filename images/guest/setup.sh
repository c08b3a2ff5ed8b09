#!/bin/sh
# Runs inside the new root file system, after the packages are installed.
# Leaves /tmp alone: mmdebstrap keeps the configuration of its own apt there, and without it works on the host.
set -eu

# A password of `*` can never be typed, yet the account is not locked: sshd refuses locked ones.
useradd --create-home --uid 1000 --user-group --shell /bin/bash --comment Coracle --password '*' coracle

# Only what a build leaves behind: `apt-get update` brings the lists back.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/*
rm -f /etc/machine-id /etc/ssh/ssh_host_*
