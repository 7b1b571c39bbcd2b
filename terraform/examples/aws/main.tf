# Everything on AWS: a Valkey that does not lose bookings, and the sweep each minute. The nodes run in the same VPC, on any
# container service; `node_security_group_ids` lets their security groups in.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.66"
    }
  }

  # The state has the sweeper's REDIS_URL: keep it encrypted and out of reach, for instance
  #   backend "s3" { bucket = "…", key = "slotcast", region = "…", encrypt = true, use_lockfile = true }
}

provider "aws" {
  region = var.region
}

module "key" {
  source = "../../modules/key"

  name = var.name
  tags = local.tags
}

module "valkey" {
  source = "../../modules/valkey"

  name        = var.name
  vpc_id      = local.vpc_id
  subnet_ids  = local.subnet_ids
  kms_key_arn = module.key.arn

  client_security_group_ids = merge(
    var.node_security_group_ids,
    { "the-sweeper" = module.sweeper.security_group_id },
  )

  users = {
    (local.node_user)    = { role = "node", password_version = var.node_password_version }
    (local.sweeper_user) = { role = "sweeper", password_version = var.sweeper_password_version }
  }

  passwords = {
    (local.node_user)    = var.node_password
    (local.sweeper_user) = var.sweeper_password
  }

  node_type         = var.node_type
  shards            = var.shards
  replicas          = var.replicas
  apply_immediately = var.apply_immediately
  alarm_topic_arns  = var.alarm_topic_arns
  tags              = local.tags
}

module "sweeper" {
  source = "../../modules/sweeper"

  name         = "${var.name}-sweeper"
  architecture = var.architecture
  package_file = coalesce(var.package_file, "${path.module}/../../../target/lambda/${var.architecture}/bootstrap.zip")
  redis_url    = "rediss-cluster://${local.sweeper_user}:${var.sweeper_password}@${module.valkey.host}:${module.valkey.port}"
  kms_key_arn  = module.key.arn

  network = {
    vpc_id     = local.vpc_id
    subnet_ids = local.subnet_ids
    redis      = { valkey = { port = module.valkey.port, security_group_id = module.valkey.security_group_id } }
  }

  alarm_topic_arns = var.alarm_topic_arns
  tags             = local.tags
}

locals {
  node_user    = "${var.name}-node"
  sweeper_user = "${var.name}-sweeper"
  tags         = merge({ service = var.name }, var.tags)
}
