# With `fixed_address`: a VPC whose only way out is a NAT gateway with one address, which the Redis can let in. The gateway
# is in one zone. While that zone is away, there is no sweep; the nodes keep working and free holds themselves.

locals {
  network_count = var.fixed_address ? 1 : 0
}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:A zone that is added later changes nothing: the subnets stay where they were made.
  state = "available"
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_12:It is closed below; the check does not follow `count`.
  #checkov:skip=CKV2_AWS_11:Flow logs cost more than all else here; one function goes out to one Redis.
  count = local.network_count

  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = merge(local.tags, { Name = var.name })
}

resource "aws_default_security_group" "closed" {
  count = local.network_count

  vpc_id = aws_vpc.this[0].id

  tags = merge(local.tags, { Name = "${var.name}-default-closed" })
}

resource "aws_subnet" "private" {
  count = local.network_count

  vpc_id                  = aws_vpc.this[0].id
  availability_zone       = data.aws_availability_zones.available.names[0]
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, 0)
  map_public_ip_on_launch = false

  tags = merge(local.tags, { Name = "${var.name}-private" })

  lifecycle {
    ignore_changes = [availability_zone]
  }
}

resource "aws_subnet" "public" {
  count = local.network_count

  vpc_id                  = aws_vpc.this[0].id
  availability_zone       = data.aws_availability_zones.available.names[0]
  cidr_block              = cidrsubnet(var.vpc_cidr, 4, 1)
  map_public_ip_on_launch = false

  tags = merge(local.tags, { Name = "${var.name}-public" })

  lifecycle {
    ignore_changes = [availability_zone]
  }
}

resource "aws_internet_gateway" "this" {
  count = local.network_count

  vpc_id = aws_vpc.this[0].id

  tags = merge(local.tags, { Name = var.name })
}

resource "aws_eip" "out" {
  #checkov:skip=CKV2_AWS_19:It belongs to the NAT gateway below.
  count = local.network_count

  domain = "vpc"

  tags = merge(local.tags, { Name = "${var.name}-out" })
}

resource "aws_nat_gateway" "this" {
  count = local.network_count

  subnet_id     = aws_subnet.public[0].id
  allocation_id = aws_eip.out[0].id

  tags = merge(local.tags, { Name = var.name })

  depends_on = [aws_route.internet]
}

resource "aws_route_table" "public" {
  count = local.network_count

  vpc_id = aws_vpc.this[0].id

  tags = merge(local.tags, { Name = "${var.name}-public" })
}

resource "aws_route" "internet" {
  count = local.network_count

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  count = local.network_count

  subnet_id      = aws_subnet.public[0].id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_route_table" "private" {
  count = local.network_count

  vpc_id = aws_vpc.this[0].id

  tags = merge(local.tags, { Name = "${var.name}-private" })
}

resource "aws_route" "out" {
  count = local.network_count

  route_table_id         = aws_route_table.private[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[0].id
}

resource "aws_route_table_association" "private" {
  count = local.network_count

  subnet_id      = aws_subnet.private[0].id
  route_table_id = aws_route_table.private[0].id
}
