# Makes a VPC, unless one is given. Neither Valkey nor the sweeper needs a way to the internet: Lambda itself takes the
# function's log and its failed runs.

locals {
  is_new_vpc = var.vpc_id == null
  vpc_id     = local.is_new_vpc ? aws_vpc.this[0].id : var.vpc_id
  subnet_ids = local.is_new_vpc ? aws_subnet.private[*].id : var.subnet_ids
}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:A zone that is added later changes nothing: the subnets stay where they were made.
  state = "available"
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_12:It is closed below; the check does not follow `count`.
  #checkov:skip=CKV2_AWS_11:Flow logs cost more than all else here, and this network has no way in or out of it.
  count = local.is_new_vpc ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = merge(local.tags, { Name = var.name })
}

resource "aws_subnet" "private" {
  count = local.is_new_vpc ? 2 : 0

  vpc_id                  = aws_vpc.this[0].id
  availability_zone       = data.aws_availability_zones.available.names[count.index]
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, count.index)
  map_public_ip_on_launch = false

  tags = merge(local.tags, { Name = "${var.name}-private-${count.index + 1}" })

  lifecycle {
    ignore_changes = [availability_zone]
  }
}

# This group has no rules, so that a resource without a security group of its own reaches nothing.
resource "aws_default_security_group" "closed" {
  count = local.is_new_vpc ? 1 : 0

  vpc_id = aws_vpc.this[0].id

  tags = merge(local.tags, { Name = "${var.name}-default-closed" })
}
