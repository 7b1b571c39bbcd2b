# A Valkey that does not lose an acknowledged booking: each write is in a log in several availability zones before it is
# answered (`durability = "sync"`). Neither ElastiCache Serverless nor a cluster without this keeps that promise.

resource "aws_elasticache_replication_group" "this" {
  replication_group_id = var.name
  description          = "slotcast: holds and bookings"

  engine         = "valkey"
  engine_version = var.engine_version
  node_type      = var.node_type
  port           = local.port

  # ElastiCache offers durability only for clusters with TLS and a replica in another zone.
  durability                 = "sync"
  cluster_mode               = "enabled"
  num_node_groups            = var.shards
  replicas_per_node_group    = var.replicas
  automatic_failover_enabled = true
  multi_az_enabled           = true
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  at_rest_encryption_enabled = true
  kms_key_id                 = var.kms_key_arn

  parameter_group_name = aws_elasticache_parameter_group.this.name
  subnet_group_name    = aws_elasticache_subnet_group.this.name
  security_group_ids   = [aws_security_group.this.id]
  user_group_ids       = [aws_elasticache_user_group.this.user_group_id]

  auto_minor_version_upgrade = true
  maintenance_window         = var.maintenance_window
  apply_immediately          = var.apply_immediately

  snapshot_retention_limit  = var.snapshot_retention_days
  snapshot_window           = var.snapshot_window
  final_snapshot_identifier = "${var.name}-final-${local.final_snapshot_suffix}"

  tags = var.tags
}

# A random id, made once with the store and kept in the state. A snapshot's name is taken for as long as the snapshot is
# kept, so without the id destroying a second store of the same name would fail.
resource "terraform_data" "final_snapshot" {}

resource "aws_elasticache_parameter_group" "this" {
  # The family is that of the major version.
  name        = "${var.name}-valkey${local.major_version}"
  family      = "valkey${local.major_version}"
  description = "slotcast: nothing is evicted"

  parameter {
    name  = "cluster-enabled"
    value = "yes"
  }

  # ElastiCache's default, volatile-lru, deletes keys that expire when memory is short: the logs from which clients catch
  # up, and the days of bookings.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }

  tags = var.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_metric_alarm" "memory" {
  for_each = local.cache_nodes

  alarm_name          = "${each.key}-memory"
  alarm_description   = "Valkey ${each.key} is filling up. When it is full, holds and bookings are refused with 503: take a larger node_type, or more shards."
  namespace           = "AWS/ElastiCache"
  metric_name         = "DatabaseMemoryUsagePercentage"
  dimensions          = { CacheClusterId = each.key }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.memory_alarm_percent
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  tags = var.tags
}

locals {
  port          = 6379
  major_version = split(".", var.engine_version)[0]

  final_snapshot_suffix = substr(terraform_data.final_snapshot.id, 0, 8)

  # ElastiCache names the nodes of a cluster NAME-SHARD-NODE.
  cache_nodes = toset([
    for pair in setproduct(range(1, var.shards + 1), range(1, var.replicas + 2)) :
    format("%s-%04d-%03d", var.name, pair[0], pair[1])
  ])
}
