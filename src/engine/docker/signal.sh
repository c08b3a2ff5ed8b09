# Signals a program's process group from inside its container. Runs as
#   /bin/sh -c THIS coracle VARIABLE=VALUE NAME
# The program is the session leader whose environment has that variable. The engine starts it from outside, so
# its parent is 0; a daemon that it left behind inherits the variable, but not the parent.
# Builtins only; `read` drops the NULs of environ in dash, busybox ash and bash alike.
mark=$1 name=$2 found=
for folder in /proc/[0-9]*; do
  line=
  { read -r line <"$folder/stat"; } 2>/dev/null
  set -f
  # After the last `)` of the command's name: state, parent, group, session.
  set -- ${line##*) }
  set +f
  case ${folder#/proc/} in "${4:-none}") ;; *) continue ;; esac
  parent=$2
  { while read -r line || [ -n "$line" ]; do
    case $line in *"$mark"*) found="$parent $4 $found" ;; esac
    case $line in *"$mark"*) break ;; esac
  done <"$folder/environ"; } 2>/dev/null
  case $found in "0 "*) break ;; esac
done
set -- $found
[ -n "$2" ] || exit 3 # not there: it has ended
# `kill -s NAME -- -GROUP` would be POSIX; busybox stumbles over the `--`.
kill "-$name" "-$2"
