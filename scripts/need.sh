#!/usr/bin/env bash
# need.sh COMMAND:PACKAGE… installs the Debian packages whose command is missing, if root and Debian allow it.
# Otherwise it says what to type and fails. `--always PACKAGE…` is for what shows no command, such as a Python module.
# It never calls sudo: what changes the system is the owner's to type.
set -euo pipefail

missing=()
if [[ "${1:-}" == --always ]]; then
  missing=("${@:2}")
else
  for need in "$@"; do
    command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
  done
fi
[[ ${#missing[@]} -eq 0 ]] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "Missing here: ${missing[*]}. Install it with this system's package manager (macOS: brew install redis node)." >&2
  exit 1
fi
if [[ "$(id -u)" -ne 0 ]]; then
  echo "Missing here: ${missing[*]}. Type: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${missing[*]} …"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null # errors still show
