resource "aws_elasticache_subnet_group" "this" {
  name        = var.name
  description = "slotcast: where Valkey is"
  subnet_ids  = var.subnet_ids

  tags = var.tags
}

# Nothing comes in except what the rules below name, and nothing goes out.
resource "aws_security_group" "this" {
  name_prefix = "${var.name}-valkey-"
  description = "Valkey of slotcast: reached by the groups that its rules name"
  vpc_id      = var.vpc_id

  tags = merge(var.tags, { Name = "${var.name}-valkey" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.this.id
  description                  = "Valkey from ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port

  tags = var.tags
}
