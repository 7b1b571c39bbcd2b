# shellcheck shell=bash
# The checks of infra/ and .github/, and the tools that they need. Sourced by scripts/test, which stands in the repository's
# root, after setup.sh.

infra_tools=target/tools
infra_venv=$infra_tools/venv

# The linters, in a virtual environment of their own, and from Debian's packages the proxy of infra/compose.yaml and
# Prometheus's promtool.
require_infra_tools() {
  mkdir -p "$infra_tools"
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv
  if ! once_for "$infra_venv/.installed" "$(python3 --version)" scripts/lib/lint-requirements.txt; then
    python3 -m venv --clear "$infra_venv" || die "python3 -m venv failed"
    "$infra_venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/lib/lint-requirements.txt ||
      die "pip install -r scripts/lib/lint-requirements.txt failed"
  fi
  mark_done "$infra_venv/.installed"
  require_unpacked caddy usr/bin/caddy
  require_unpacked prometheus usr/bin/promtool
}

# Takes one program out of a Debian package, without the services that an installation would start: require_unpacked PACKAGE PATH
require_unpacked() {
  local package=$1 path=$2 folder
  [ -x "$infra_tools/$path" ] && return
  has apt-get dpkg-deb || die "$package is missing: only Debian's and Ubuntu's packages are known here."
  folder=$(mktemp -d)
  # apt downloads as a user without rights where it can.
  chmod 755 "$folder"
  (cd "$folder" && apt-get download -qq "$package" 2>/dev/null) || {
    # The lists are old or missing.
    install_packages ca-certificates
    (cd "$folder" && apt-get download -qq "$package") || die "the package $package cannot be downloaded"
  }
  dpkg-deb --extract "$folder"/*.deb "$folder/files" || die "the package $package cannot be unpacked"
  mkdir -p "$infra_tools/$(dirname "$path")"
  mv "$folder/files/$path" "$infra_tools/$path"
  rm -rf "$folder"
}

# The image, the platform files and the workflows, by linters that know them.
check_infra_files() {
  check_image && check_platform_files && check_workflows
}

check_image() {
  "$infra_venv/bin/hadolint" infra/Dockerfile &&
    run_checkov --framework dockerfile --file infra/Dockerfile
}

check_platform_files() {
  local file
  for file in render.yaml fly.toml fly.valkey.toml; do
    "$infra_venv/bin/check-jsonschema" --schemafile "infra/schemas/$(schema_of "$file")" "infra/$file" || return
  done
}

# fly.valkey.toml is of the kind of fly.toml.
schema_of() {
  case $1 in
    render.yaml) echo render.schema.json ;;
    fly*.toml) echo fly.schema.json ;;
  esac
}

# The scripts of this repository.
shell_scripts() {
  git ls-files scripts .ci | grep -v '\.txt$' | xargs "$infra_venv/bin/shellcheck" -x
}

check_workflows() {
  # With shellcheck: the steps' scripts are looked at, too.
  "$infra_venv/bin/actionlint" -shellcheck="$infra_venv/bin/shellcheck" -color=false .github/workflows/*.yml &&
    run_checkov --framework github_actions --directory .github
}

# Nothing is fetched, neither policies nor modules.
run_checkov() {
  "$infra_venv/bin/checkov" --skip-download --compact --quiet "$@"
}

# The rules are valid, and each alert fires when it should and not before.
check_alert_rules() {
  local promtool=$infra_tools/usr/bin/promtool
  "$promtool" check rules infra/prometheus/alerts.yaml &&
    "$promtool" check config --syntax-only infra/prometheus/prometheus.yaml &&
    "$promtool" test rules infra/prometheus/alerts.test.yaml
}
