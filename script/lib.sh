# Shared by the scripts in this folder; sourced, never run.
# shellcheck shell=bash

# A command substitution that fails, fails.
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for the scripts that source this one
STATE="$ROOT/state"
SCRIPT=${0##*/}
# shellcheck disable=SC2034
PYTHON_HOME="${CARGO_TARGET_DIR:-$ROOT/target}/test-venv"
# shellcheck disable=SC2034
CARGO_FUZZ_HOME="${CARGO_TARGET_DIR:-$ROOT/target}/cargo-fuzz"
# shellcheck disable=SC2034
CARGO_DEB_HOME="${CARGO_TARGET_DIR:-$ROOT/target}/cargo-deb"

export DEBIAN_FRONTEND=noninteractive

say() { printf '%s: %s\n' "$SCRIPT" "$*"; }
warn() { printf '%s: %s\n' "$SCRIPT" "$*" >&2; }
die() {
  warn "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }
has_apt() { have apt-get && have dpkg; }

# The block of comment lines at the top of a script is its help.
print_help() { sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p}}' "$0"; }

# A sourced script must not fail on `set -e` when a probe says no, hence `if` around every probe.
engine_answers() { have docker && docker version >/dev/null 2>&1; }

image_present() { docker image inspect "$1" >/dev/null 2>&1; }

# Waits until a command succeeds; a deadline in seconds comes first.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# Whether the process in a pid file lives and still is what it was (a pid may be used again).
runs() {
  local pid_file=$1 program=$2 pid
  [ -s "$pid_file" ] || return 1
  pid=$(cat "$pid_file")
  [ -r "/proc/$pid/cmdline" ] || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$program"
}

# A subcommand of cargo, installed into a folder of its own unless there is one already.
cargo_tool() {
  local name=$1 home=$2
  PATH="$PATH:$home/bin"
  if have "$name"; then return; fi
  say "installing $name into ${home#"$ROOT/"}" >&2
  cargo install "$name" --locked --quiet --root "$home" </dev/null
}

# Installs Debian packages; the list of packages is refreshed once per run.
apt_install() {
  has_apt || die "please install these by hand (no apt-get here): $*"
  is_root || die "please run as root: apt-get install --no-install-recommends $*"
  say "installing $*"
  apt_refresh
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null </dev/null
}

APT_FRESH=no
apt_refresh() {
  if [ "$APT_FRESH" = no ] && is_root; then
    apt-get update -qq </dev/null
    APT_FRESH=yes
  fi
}

# What `apt-get install` would be needed for: `need PROGRAM PACKAGE` adds PACKAGE to MISSING.
MISSING=()
need() { have "$1" || MISSING+=("$2"); }
install_missing() {
  [ "${#MISSING[@]}" -eq 0 ] || apt_install "${MISSING[@]}"
  MISSING=()
}
