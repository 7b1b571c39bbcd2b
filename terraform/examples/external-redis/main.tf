# The sweep each minute for a Redis outside of AWS, such as Render's Key Value by its external URL.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.66"
    }
  }

  # The state has REDIS_URL: keep it encrypted and out of reach, for instance
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

module "sweeper" {
  source = "../../modules/sweeper"

  name         = var.name
  architecture = var.architecture
  package_file = coalesce(var.package_file, "${path.module}/../../../target/lambda/${var.architecture}/bootstrap.zip")
  redis_url    = var.redis_url
  redis_prefix = var.redis_prefix
  kms_key_arn  = module.key.arn

  network = !var.fixed_address ? null : {
    vpc_id     = aws_vpc.this[0].id
    subnet_ids = aws_subnet.private[*].id
    redis = {
      for range in var.redis_cidrs : range => { port = var.redis_port, cidr_ipv4 = range }
    }
  }

  alarm_topic_arns = var.alarm_topic_arns
  tags             = local.tags

  # Without the way out, the sweeper's first runs would fail.
  depends_on = [aws_route.out, aws_route_table_association.private]
}

locals {
  tags = merge({ service = var.name }, var.tags)
}
