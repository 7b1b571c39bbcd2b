# shellcheck shell=bash
# Checks infra/ and .github/, and installs the tools for that. scripts/test sources this after setup.sh, in the repository's
# root.

infra_tools=target/tools
infra_venv=$infra_tools/venv

# The linters, in a virtual environment of their own. From Debian's packages come promtool of Prometheus and the proxy of
# infra/compose.yaml.
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

# Unpacks one program from a Debian package. Installing the package would start its services: require_unpacked PACKAGE PATH
require_unpacked() {
  local package=$1 path=$2 folder
  [ -x "$infra_tools/$path" ] && return
  has apt-get dpkg-deb || die "$package is missing: only Debian's and Ubuntu's packages are known here."
  folder=$(mktemp -d)
  # If it can, apt downloads as a user without rights, who must be able to enter the folder.
  chmod 755 "$folder"
  (cd "$folder" && apt-get download -qq "$package" 2>/dev/null) || {
    # The download fails if the package lists are old or missing. This renews them.
    install_packages ca-certificates
    (cd "$folder" && apt-get download -qq "$package") || die "the package $package cannot be downloaded"
  }
  dpkg-deb --extract "$folder"/*.deb "$folder/files" || die "the package $package cannot be unpacked"
  mkdir -p "$infra_tools/$(dirname "$path")"
  mv "$folder/files/$path" "$infra_tools/$path"
  rm -rf "$folder"
}

# Lints the image, the platform files and the workflows.
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

# The schema for a file: fly.valkey.toml has that of fly.toml.
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
  # With shellcheck, actionlint checks the scripts of the workflows' steps, too.
  "$infra_venv/bin/actionlint" -shellcheck="$infra_venv/bin/shellcheck" -color=false .github/workflows/*.yml &&
    run_checkov --framework github_actions --directory .github
}

# Checkov downloads nothing here, neither policies nor modules.
run_checkov() {
  "$infra_venv/bin/checkov" --skip-download --compact --quiet "$@"
}

# Checks that the alert rules are valid, and that each alert fires when it should and not before.
check_alert_rules() {
  local promtool=$infra_tools/usr/bin/promtool
  "$promtool" check rules infra/prometheus/alerts.yaml &&
    "$promtool" check config --syntax-only infra/prometheus/prometheus.yaml &&
    "$promtool" test rules infra/prometheus/alerts.test.yaml
}
