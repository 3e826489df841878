#!/bin/bash
# Installs what fedit needs on Debian 12, and only what is missing.
#   jobs/install.sh build     compiler, MPI and libraries (apt)
#   jobs/install.sh tests     the same, and what the tests use: GoogleTest, Slurm and more (apt)
#   jobs/install.sh python    build/venv with the report of a run and what tests use (pip)
# Packages need root or sudo. No service is started or enabled by them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build_packages=(
  g++ cmake ninja-build git libopenmpi-dev openmpi-bin libhdf5-dev libboost-program-options-dev
  libdnnl-dev libhwy-dev libfmt-dev nlohmann-json3-dev libssl-dev libpcre2-dev libicu-dev
)
test_packages=(
  "${build_packages[@]}" libgtest-dev hdf5-tools slurm-wlm munge clang-format util-linux xz-utils
  python3
)

fail() {
  printf 'install.sh: %s\n' "$@" >&2
  exit 1
}

missing_of() {  # prints those of the given packages that are not installed
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed ||
      echo "$package"
  done
}

# Debian starts a service when its package is installed, unless this file says no.
deny_services() {
  [ -e /usr/sbin/policy-rc.d ] && return
  trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d > /dev/null
  "${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
}

# What was just installed would else start with the machine. Argument: the new packages.
disable_services() {
  local service
  if ! command -v systemctl > /dev/null || ! grep -qxE 'slurm-wlm|munge' <<< "$1"; then
    return
  fi
  for service in munge slurmctld slurmd; do
    # Fails where the service is not there or systemd does not run, and then there is nothing to do.
    "${as_root[@]}" systemctl disable "$service" > /dev/null 2>&1 || true
  done
}

install_packages() {
  local missing
  command -v dpkg-query > /dev/null ||
    fail "this is not Debian: install the like of these packages, and build by the README:" \
      "  ${build_packages[*]}"
  missing=$(missing_of "$@")
  [ -n "$missing" ] || return 0
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null ||
      fail "packages are missing, and this is neither root nor is there sudo. As root:" \
        "  apt-get install --no-install-recommends ${missing//$'\n'/ }"
    as_root=(sudo)
  fi
  echo "installing ${missing//$'\n'/ }"
  deny_services
  "${as_root[@]}" apt-get update -q < /dev/null
  # shellcheck disable=SC2086  # one word a package
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends $missing < /dev/null
  disable_services "$missing"
}

find_python() {  # the first Python 3.11 or later; Debian's before others
  local python
  for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      echo "$python"
      return
    fi
  done
  fail "no Python 3.11 or later is here (Debian 12 has 3.11)"
}

install_python() {
  local python stamp=build/venv/installed now
  now=$(cat analysis/pyproject.toml analysis/fedit_analysis/*.* data/requirements.txt | sha256sum)
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$now" ]; then
    return
  fi
  install_packages python3 python3-venv
  python=$(find_python)
  echo "making build/venv with $("$python" --version)"
  "$python" -m venv --clear build/venv
  build/venv/bin/pip install -q --disable-pip-version-check ./analysis -r data/requirements.txt \
    < /dev/null || fail "pip could not make build/venv (is a package index reachable?)"
  rm -rf analysis/build  # what pip leaves there
  echo "$now" > "$stamp"
}

case "${1:-}" in
  build) install_packages "${build_packages[@]}" ;;
  tests) install_packages "${test_packages[@]}" ;;
  python) install_python ;;
  *) sed -n '2,6s/^# \?//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
