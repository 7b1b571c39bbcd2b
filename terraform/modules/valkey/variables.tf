variable "name" {
  description = "What the cluster is called, and what the names of all else begin with: 2 to 32 lower-case letters, digits and single hyphens."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,31}$", var.name)) && length(var.name) <= 32
    error_message = "name must be 2 to 32 lower-case letters, digits and single hyphens, and begin with a letter."
  }
}

variable "vpc_id" {
  description = "The VPC that Valkey and all of its clients are in."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "vpc_id must be the id of a VPC, such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Private subnets of that VPC, at least two, in different availability zones."
  type        = list(string)

  validation {
    condition     = length(distinct(var.subnet_ids)) >= 2
    error_message = "subnet_ids must name at least two subnets, in different availability zones: a replica in the same zone is lost with the primary."
  }
}

variable "client_security_group_ids" {
  description = "Security groups that may connect, by a name for each of them: the sweeper's, and those of the nodes."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.client_security_group_ids) : startswith(id, "sg-")])
    error_message = "client_security_group_ids must be ids of security groups, such as sg-0123456789abcdef0. Address ranges are not taken."
  }
}

variable "users" {
  description = "Who may log in: by user name a role (node or sweeper), and a number to be raised with each change of the password."
  type = map(object({
    role             = string
    password_version = optional(number, 1)
  }))

  validation {
    condition     = alltrue([for user in values(var.users) : contains(["node", "sweeper"], user.role)])
    error_message = "users: the role must be node or sweeper."
  }

  validation {
    condition     = alltrue([for name in keys(var.users) : can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,39}$", name)) && length(name) <= 40 && name != "default"])
    error_message = "users: a name must be 2 to 40 lower-case letters, digits and single hyphens, begin with a letter, and not be default."
  }

  validation {
    condition     = length(var.users) > 0
    error_message = "users must name at least one user: Valkey is closed to everybody else."
  }
}

variable "passwords" {
  description = "The passwords of the users, by user name: 32 to 128 letters, digits, _ and -, as `openssl rand -hex 32` makes them. Never kept in the state."
  type        = map(string)
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = alltrue([for password in values(var.passwords) : can(regex("^[A-Za-z0-9_-]{32,128}$", password))])
    error_message = "passwords must be 32 to 128 letters, digits, _ and -: `openssl rand -hex 32` makes one."
  }

  validation {
    condition     = toset(keys(var.passwords)) == toset(keys(var.users))
    error_message = "passwords must have one for each of users, and no other."
  }
}

variable "redis_prefix" {
  description = "SLOTCAST_REDIS_PREFIX of the nodes and of the sweeper: what all keys and channels begin with. The users get no others."
  type        = string
  default     = "slotcast"

  validation {
    # slotcast allows 64 letters, digits and _-.: ; all of them are plain in the patterns of an access string.
    condition     = can(regex("^[A-Za-z0-9_.:-]{1,64}$", var.redis_prefix))
    error_message = "redis_prefix must be 1 to 64 letters, digits, _, -, . or :."
  }
}

variable "engine_version" {
  description = "Valkey's version, MAJOR.MINOR: 9.0, or a later 9. Older ones have no durability."
  type        = string
  default     = "9.0"

  validation {
    condition     = can(regex("^9\\.[0-9]+$", var.engine_version))
    error_message = "engine_version must be 9.0 or a later 9: older ones have no durability."
  }
}

variable "node_type" {
  description = "The node type, of a family that durability is offered for: r6g, r7g, r8g, m6g, m7g, m8g, c7gn or c8gn."
  type        = string
  default     = "cache.m7g.large"

  validation {
    condition     = can(regex("^cache\\.([rm][678]g|c[78]gn)\\.[0-9]*x?large$", var.node_type))
    error_message = "node_type must be of a family that durability is offered for (r6g, r7g, r8g, m6g, m7g, m8g, c7gn, c8gn), such as cache.m7g.large: others may lose bookings."
  }
}

variable "shards" {
  description = "How many shards the keys are spread over. One serves many nodes: see the sizing in the operations guide."
  type        = number
  default     = 1

  validation {
    condition     = var.shards >= 1 && var.shards <= 90 && floor(var.shards) == var.shards
    error_message = "shards must be a whole number from 1 to 90."
  }
}

variable "replicas" {
  description = "Replicas of each shard, in other availability zones."
  type        = number
  default     = 1

  validation {
    condition     = var.replicas >= 1 && var.replicas <= 5 && floor(var.replicas) == var.replicas
    error_message = "replicas must be a whole number from 1 to 5: without a replica there is neither failover nor durability."
  }
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts what is on disk, or null for the key that AWS manages."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key, or null."
  }
}

variable "snapshot_retention_days" {
  description = "How many days daily snapshots are kept."
  type        = number
  default     = 14

  validation {
    condition     = var.snapshot_retention_days >= 1 && var.snapshot_retention_days <= 35
    error_message = "snapshot_retention_days must be 1 to 35: without snapshots nothing undoes a mistake."
  }
}

variable "snapshot_window" {
  description = "When the daily snapshot is taken, UTC, at least an hour."
  type        = string
  default     = "02:00-03:00"

  validation {
    condition     = can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$", var.snapshot_window))
    error_message = "snapshot_window must be HH:MM-HH:MM, UTC."
  }
}

variable "maintenance_window" {
  description = "When AWS may replace nodes, UTC. A failover takes seconds, in which acts get 503."
  type        = string
  default     = "tue:03:30-tue:04:30"

  validation {
    condition     = can(regex("^(mon|tue|wed|thu|fri|sat|sun):[0-9]{2}:[0-9]{2}-(mon|tue|wed|thu|fri|sat|sun):[0-9]{2}:[0-9]{2}$", var.maintenance_window))
    error_message = "maintenance_window must be like tue:03:30-tue:04:30, UTC."
  }
}

variable "apply_immediately" {
  description = "Whether changes are made at once, and not in the maintenance window."
  type        = bool
  default     = false
}

variable "memory_alarm_percent" {
  description = "From what share of its memory on a node raises the alarm."
  type        = number
  default     = 75

  validation {
    condition     = var.memory_alarm_percent > 0 && var.memory_alarm_percent < 100
    error_message = "memory_alarm_percent must be between 0 and 100."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms are sent to."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
