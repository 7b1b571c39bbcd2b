# shellcheck shell=bash
# Checks of terraform/, for scripts/test. Sourced after setup.sh, in the repository's root.
#
# `terraform validate` and `terraform test` ask a provider for its schema. The real provider is hundreds of megabytes from
# HashiCorp. terraform/offline/provider.py has only the part of its schema that is used here.

terraform_tools=target/tools
terraform_folders=(modules/key modules/valkey modules/sweeper examples/aws examples/external-redis)

# Checks the format, validates and tests every folder in a copy. So nothing is left beside the files, and no state or file
# of variables is read that somebody keeps there.
terraform_checks() {
  local copy=$terraform_tools/terraform folder
  terraform fmt -check -diff -recursive terraform || return
  require_venv "$terraform_tools/terraform-provider" terraform/offline/requirements.txt || return
  write_terraform_settings || return
  rm -rf "$copy" && mkdir -p "$copy" || return
  git ls-files -z --cached --others --exclude-standard terraform | xargs -0 cp --parents -t "$copy" || return
  for folder in "${terraform_folders[@]}"; do
    echo "-- $folder"
    run_terraform "$copy/terraform/$folder" get || return
    run_terraform "$copy/terraform/$folder" validate || return
    run_terraform "$copy/terraform/$folder" test || return
  done
}

# Makes the provider's program and the settings that name it. With a development override, Terraform downloads nothing and
# writes no lock file.
write_terraform_settings() {
  local root=$PWD bin=$terraform_tools/terraform-bin
  mkdir -p "$bin"
  printf '#!/bin/sh\nexec "%s/bin/python" "%s/terraform/offline/provider.py" "$@"\n' \
    "$root/$terraform_tools/terraform-provider" "$root" >"$bin/terraform-provider-aws"
  chmod +x "$bin/terraform-provider-aws"
  printf 'provider_installation {\n  dev_overrides {\n    "hashicorp/aws" = "%s"\n  }\n}\n' "$root/$bin" \
    >"$bin/settings.tfrc"
}

# Runs a command of Terraform in a folder, without the warning about the override: run_terraform FOLDER COMMAND
run_terraform() {
  TF_CLI_CONFIG_FILE=$PWD/$terraform_tools/terraform-bin/settings.tfrc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 \
    terraform -chdir="$1" "$2" -no-color 2>&1 |
    sed -e '/^Warning: Provider development overrides/,/^releases\.$/d' \
      -e '/^Success! .* but there were some/,/^$/d' -e '/^$/d'
}

# Scans for known risks. Each exception has its reason beside it.
terraform_security() {
  require_venv "$terraform_tools/checkov" terraform/offline/requirements-checkov.txt || return
  "$terraform_tools/checkov/bin/checkov" --directory terraform --framework terraform --skip-download --compact --quiet
}
