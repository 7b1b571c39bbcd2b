# What must not drift: no acknowledged booking is lost, nobody else gets in.
#
# Attributes that are sets in the real provider are lists in the one of offline/: `toset` makes them alike.

mock_provider "aws" {
  mock_resource "aws_security_group" {
    defaults = { id = "sg-0123456789abcdef0" }
  }
}

# Known only after the first apply; a test says what it will be.
override_resource {
  target          = terraform_data.final_snapshot
  override_during = plan
  values          = { id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9" }
}

variables {
  name                      = "slotcast"
  vpc_id                    = "vpc-0123456789abcdef0"
  subnet_ids                = ["subnet-a", "subnet-b"]
  client_security_group_ids = { nodes = "sg-0aaaaaaaaaaaaaaa0", sweeper = "sg-0bbbbbbbbbbbbbbb0" }
  kms_key_arn               = "arn:aws:kms:eu-south-1:123456789012:key/1"
  alarm_topic_arns          = ["arn:aws:sns:eu-south-1:123456789012:alarms"]

  users = {
    slotcast-node    = { role = "node" }
    slotcast-sweeper = { role = "sweeper", password_version = 3 }
  }

  passwords = {
    slotcast-node    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    slotcast-sweeper = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
  }
}

run "loses_nothing" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.this.durability == "sync"
    error_message = "A write must be in the log before it is answered."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.engine == "valkey" && aws_elasticache_replication_group.this.cluster_mode == "enabled"
    error_message = "Durability is offered for Valkey in cluster mode alone."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.multi_az_enabled && aws_elasticache_replication_group.this.automatic_failover_enabled && aws_elasticache_replication_group.this.replicas_per_node_group >= 1
    error_message = "There must be a replica in another zone, and a failover to it."
  }

  assert {
    condition     = length([for parameter in aws_elasticache_parameter_group.this.parameter : parameter if parameter.name == "maxmemory-policy" && parameter.value == "noeviction"]) == 1
    error_message = "Nothing may be evicted."
  }

  assert {
    condition     = aws_elasticache_parameter_group.this.family == "valkey9" && length([for parameter in aws_elasticache_parameter_group.this.parameter : parameter if parameter.name == "cluster-enabled" && parameter.value == "yes"]) == 1
    error_message = "The parameters must be those of a Valkey 9 in cluster mode."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.parameter_group_name == aws_elasticache_parameter_group.this.name
    error_message = "The parameter group must be the one with noeviction."
  }

  assert {
    condition     = aws_elasticache_replication_group.this.snapshot_retention_limit == 14 && aws_elasticache_replication_group.this.final_snapshot_identifier == "slotcast-final-0a1b2c3d"
    error_message = "Snapshots must be kept, one of them after the end."
  }
}

run "is_encrypted" {
  command = plan

  assert {
    condition     = aws_elasticache_replication_group.this.transit_encryption_enabled && aws_elasticache_replication_group.this.transit_encryption_mode == "required"
    error_message = "Connections must be encrypted."
  }

  assert {
    # A text in the provider's schema.
    condition     = tobool(aws_elasticache_replication_group.this.at_rest_encryption_enabled) && aws_elasticache_replication_group.this.kms_key_id == var.kms_key_arn
    error_message = "What is on disk must be encrypted, with the key that was given."
  }
}

run "lets_in_only_its_clients" {
  command = apply

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.client : rule.referenced_security_group_id]) == toset(values(var.client_security_group_ids))
    error_message = "There must be a rule for each client's group, and no other."
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.client : rule.from_port == 6379 && rule.to_port == 6379 && rule.ip_protocol == "tcp" && rule.security_group_id == aws_security_group.this.id])
    error_message = "Only Valkey's port may be open."
  }

  assert {
    condition     = toset(aws_elasticache_replication_group.this.security_group_ids) == toset([aws_security_group.this.id])
    error_message = "Valkey must be in its own group alone."
  }

  assert {
    condition     = toset(aws_elasticache_subnet_group.this.subnet_ids) == toset(var.subnet_ids)
    error_message = "Valkey must be in the private subnets."
  }
}

run "users_have_what_they_need" {
  command = plan

  assert {
    condition     = toset(keys(aws_elasticache_user.this)) == toset(["slotcast-node", "slotcast-sweeper"])
    error_message = "There must be the users that were named, and no default user."
  }

  assert {
    condition     = alltrue([for user in aws_elasticache_user.this : startswith(user.access_string, "on ~slotcast:* resetchannels &slotcast:* -@all +")])
    error_message = "A user must have the keys and channels of the prefix and no others, and begin with no command."
  }

  # A node has SCAN, which names keys and reads none: it finds once what slotcast 0.1 stored.
  assert {
    condition     = !anytrue([for user in aws_elasticache_user.this : can(regex("[+]@| ~[*]| &[*]|allkeys|allchannels|nopass|[+](config|keys|flush|acl|debug|shutdown|script)", user.access_string))])
    error_message = "A user must not have categories, all keys, all channels, or commands of administrators."
  }

  assert {
    condition     = aws_elasticache_user.this["slotcast-sweeper"].access_string == "on ~slotcast:* resetchannels &slotcast:* -@all +cluster|slots +eval +evalsha +hdel +hget +hgetall +hmget +hset +info +pexpire +ping +publish +set +time +xadd +xrange +xrevrange +xtrim +zadd +zrange +zrangebyscore +zrem +zscore"
    error_message = "The sweeper must have what a sweep needs."
  }

  assert {
    condition     = aws_elasticache_user.this["slotcast-sweeper"].passwords_wo_version == 3 && aws_elasticache_user.this["slotcast-node"].passwords_wo_version == 1
    error_message = "A password must be sent again when its number changes."
  }
}

run "another_prefix" {
  command = plan

  variables {
    redis_prefix = "staging.slots"
  }

  assert {
    condition     = alltrue([for user in aws_elasticache_user.this : startswith(user.access_string, "on ~staging.slots:* resetchannels &staging.slots:* -@all +")])
    error_message = "The users must have the keys and channels of that prefix."
  }
}

run "watches_the_memory_of_each_node" {
  command = plan

  variables {
    shards   = 2
    replicas = 2
  }

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.memory) == ["slotcast-0001-001", "slotcast-0001-002", "slotcast-0001-003", "slotcast-0002-001", "slotcast-0002-002", "slotcast-0002-003"]
    error_message = "Each node must have its alarm."
  }

  assert {
    condition     = alltrue([for name, alarm in aws_cloudwatch_metric_alarm.memory : alarm.dimensions == tomap({ CacheClusterId = name }) && toset(alarm.alarm_actions) == toset(var.alarm_topic_arns)])
    error_message = "An alarm must be of its node, and be sent."
  }
}

run "a_newer_version_keeps_its_parameters" {
  command = plan

  variables {
    engine_version = "9.1"
  }

  assert {
    condition     = aws_elasticache_parameter_group.this.family == "valkey9" && aws_elasticache_replication_group.this.engine_version == "9.1"
    error_message = "The family of parameters is that of the major version."
  }
}

run "refuses_what_would_lose_bookings" {
  command = plan

  variables {
    engine_version          = "8.2"
    node_type               = "cache.t4g.micro"
    replicas                = 0
    shards                  = 0
    snapshot_retention_days = 0
    subnet_ids              = ["subnet-a", "subnet-a"]
  }

  expect_failures = [var.engine_version, var.node_type, var.replicas, var.shards, var.snapshot_retention_days, var.subnet_ids]
}

run "refuses_what_would_let_others_in" {
  command = plan

  variables {
    client_security_group_ids = { everybody = "0.0.0.0/0" }
    redis_prefix              = "*"
    users                     = { default = { role = "node" } }
    passwords                 = { default = "0123456789abcdef0123456789abcdef" }
  }

  expect_failures = [var.client_security_group_ids, var.redis_prefix, var.users]
}

run "refuses_a_role_that_is_none" {
  command = plan

  variables {
    users     = { anna = { role = "admin" } }
    passwords = { anna = "0123456789abcdef0123456789abcdef" }
  }

  expect_failures = [var.users]
}

run "refuses_weak_passwords" {
  command = plan

  variables {
    passwords = { slotcast-node = "short", slotcast-sweeper = "fedcba9876543210fedcba9876543210" }
  }

  expect_failures = [var.passwords]
}

run "refuses_a_user_without_a_password" {
  command = plan

  variables {
    passwords = { slotcast-node = "0123456789abcdef0123456789abcdef" }
  }

  expect_failures = [var.passwords]
}

run "refuses_other_mistakes" {
  command = plan

  variables {
    name                 = "Slot--cast"
    vpc_id               = "my-vpc"
    kms_key_arn          = "alias/slotcast"
    snapshot_window      = "at night"
    maintenance_window   = "sunday"
    memory_alarm_percent = 100
    alarm_topic_arns     = ["me@example.org"]
  }

  expect_failures = [var.name, var.vpc_id, var.kms_key_arn, var.snapshot_window, var.maintenance_window, var.memory_alarm_percent, var.alarm_topic_arns]
}
