# The users, with the rights that slotcast needs and no more. There is no user `default`: nobody gets in without a password.
#
# `tests/it/terraform.rs` holds these lists against the product's scripts, and runs a node's store and a sweep as these users.

locals {
  # The commands that the product's scripts call.
  script_commands = [
    "del", "expireat", "get", "hdel", "hget", "hgetall", "hmget", "hset", "info", "pexpire", "publish", "scan", "set",
    "time", "xadd", "xdel", "xrange", "xrevrange", "xtrim", "zadd", "zrandmember", "zrange", "zrangebylex",
    "zrangebyscore", "zrem",
    "zremrangebyscore", "zscore",
  ]

  # The commands among them that the scripts of a sweep call.
  sweep_script_commands = [
    "hdel", "hget", "hmget", "hset", "info", "pexpire", "publish", "set", "time", "xadd", "xrange", "xrevrange", "xtrim",
    "zadd", "zrange", "zrangebyscore", "zrem", "zscore",
  ]

  # The commands that a sweep sends outside of scripts and that none of its scripts calls.
  sweep_commands = ["hgetall"]

  # The commands that run scripts, find the keys of a cluster, and check a connection.
  connection_commands = ["cluster|slots", "eval", "evalsha", "ping"]

  # The commands with which a node hears of changes.
  subscription_commands = ["subscribe", "unsubscribe"]

  commands = {
    node    = concat(local.script_commands, local.connection_commands, local.subscription_commands)
    sweeper = concat(local.sweep_script_commands, local.sweep_commands, local.connection_commands)
  }

  access_strings = {
    for role, commands in local.commands :
    role => join(" ", concat(
      ["on", "~${var.redis_prefix}:*", "resetchannels", "&${var.redis_prefix}:*", "-@all"],
      [for command in sort(commands) : "+${command}"],
    ))
  }
}

resource "aws_elasticache_user" "this" {
  for_each = var.users

  user_id       = each.key
  user_name     = each.key
  engine        = "valkey"
  access_string = local.access_strings[each.value.role]

  # The password is sent, and never kept in the state. It is sent again when the version changes.
  passwords_wo         = var.passwords[each.key]
  passwords_wo_version = each.value.password_version

  tags = var.tags
}

resource "aws_elasticache_user_group" "this" {
  user_group_id = var.name
  engine        = "valkey"
  user_ids      = sort([for user in aws_elasticache_user.this : user.user_id])

  tags = var.tags
}
