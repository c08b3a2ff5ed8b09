#!/bin/sh
# Runs inside the new root file system, after images/guest/setup.sh and with sshd_config in place.
set -eu

# Privilege separation wants its folder; without an init system nobody else makes it.
mkdir -p /run/sshd
chmod 0755 /run/sshd
# One host key, new with every build of the image: the tests know better than to trust it.
rm -f /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C coracle-oracle -f /etc/ssh/ssh_host_ed25519_key
/usr/sbin/sshd -t
