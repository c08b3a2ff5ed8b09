# What sshd does between fork and exec, inside the container and as its user. Runs as
#   /bin/sh -c THIS coracle MODE USERNAME SIZE MODES ARG...
# MODE      shell: login shell · command: ARG is run by the shell · octal: the same, ARG escaped for printf %b
#           args: ARG... is the program
# USERNAME  for a user without an entry in passwd      SIZE  ROWS:COLUMNS of the terminal, else empty
# MODES     words for stty
# Builtins only (dash, busybox ash, bash as sh); stty if there is one. Nothing but what is exported gets out.

# The user: the shell's own uid, not a name out of the environment.
while read -r coracle_key coracle_uid coracle_rest; do
  case $coracle_key in Uid:) break ;; esac
done </proc/self/status
coracle_name= coracle_home= coracle_shell=
# 65534 is nobody: an image's entry for it (no shell, no home) is there to keep logins out, and this is one.
if [ -r /etc/passwd ] && [ "$coracle_uid" != 65534 ]; then
  while IFS=: read -r coracle_name coracle_rest coracle_key coracle_rest coracle_rest coracle_home coracle_shell ||
    [ -n "$coracle_name" ]; do
    case $coracle_key in "$coracle_uid") break ;; esac
    coracle_name= coracle_home= coracle_shell=
  done </etc/passwd
fi
if [ -z "$coracle_name" ]; then
  case $coracle_uid in 0) coracle_name=root ;; *) coracle_name=$2 ;; esac
fi
export USER="$coracle_name" LOGNAME="$coracle_name" SHELL="${coracle_shell:-/bin/sh}"
[ -x "$SHELL" ] || SHELL=/bin/sh
# The image's own HOME stays; the engine says "/" when it knows none.
case ${HOME-} in '' | /) HOME=${coracle_home:-/} ;; esac
export HOME
# An image without a working directory starts where sshd would.
case $PWD in / | '') cd "$HOME" 2>/dev/null && unset OLDPWD ;; esac

if [ -n "$3" ]; then
  # Field 7 is the terminal's device number; major 136 and on are /dev/pts.
  read -r coracle_rest coracle_rest coracle_rest coracle_rest coracle_rest coracle_rest coracle_key coracle_rest </proc/self/stat
  export SSH_TTY="/dev/pts/$(((coracle_key >> 8 & 0xfff) * 256 - 34816 + (coracle_key & 0xff | coracle_key >> 12 & 0xfff00)))"
  if command -v stty >/dev/null 2>&1; then
    # Unless the engine was faster: a size that came in the meantime is newer than ours.
    case $(stty size 2>/dev/null) in [1-9]*) ;; *) stty rows "${3%:*}" columns "${3#*:}" 2>/dev/null ;; esac
    set -f
    [ -z "$4" ] || stty $4 2>/dev/null
    set +f
  fi
fi

coracle_key=$1
shift 4
case $coracle_key in
shell)
  unset coracle_key coracle_uid coracle_rest coracle_name coracle_home coracle_shell
  case ${SHELL##*/} in
  *sh) exec "$SHELL" -l ;;
  *) exec "$SHELL" ;; # nologin and its like take no options
  esac
  ;;
octal)
  # The dot keeps trailing newlines.
  coracle_key=$(printf '%b.' "$1")
  exec "$SHELL" -c "${coracle_key%.}"
  ;;
command) exec "$SHELL" -c "$1" ;;
esac
case $1 in
*/*)
  [ -e "$1" ] || { echo "$1: not found in the container" >&2; exit 127; }
  [ -f "$1" ] && [ -x "$1" ] || { echo "$1: not executable in the container" >&2; exit 126; }
  ;;
*) command -v "$1" >/dev/null 2>&1 || { echo "$1: not found in the container" >&2; exit 127; } ;;
esac
exec "$@"
