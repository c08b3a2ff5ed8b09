#!/bin/sh
# Fills the folder $1 with an image that holds as little as possible: busybox under its many names.
# No passwd, no bash, no sftp-server: what works here works with any image.
set -eu

root=$1 busybox=$2
mkdir -p "$root/bin" "$root/tmp"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
chmod 0755 "$root/bin/busybox"
for applet in $("$busybox" --list); do
  [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
done
