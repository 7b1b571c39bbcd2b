variable "name" {
  description = "What the function is called, and what the names of all else begin with: 2 to 32 lower-case letters, digits and single hyphens."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,31}$", var.name)) && length(var.name) <= 32
    error_message = "name must be 2 to 32 lower-case letters, digits and single hyphens, and begin with a letter."
  }
}

variable "package_file" {
  description = "The path of bootstrap.zip, as ./scripts/package-lambda makes it, of the same architecture as below."
  type        = string

  validation {
    condition     = endswith(var.package_file, "bootstrap.zip") && fileexists(var.package_file)
    error_message = "package_file must be the path of a bootstrap.zip that is there: ./scripts/package-lambda makes it."
  }
}

variable "architecture" {
  description = "What the package was built for: arm64 or x86_64."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
}

variable "redis_url" {
  description = "REDIS_URL of the nodes, with the sweeper's own user and password, encrypted: rediss://, rediss-cluster:// or rediss-sentinel://. Lambda keeps it encrypted; it is in the state too."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^rediss(-cluster|-sentinel)?://[^@/]+@[^@/]+", var.redis_url))
    error_message = "redis_url must be rediss://USER:PASSWORD@HOST:PORT, or the same with rediss-cluster:// or rediss-sentinel://: encrypted, and with a login."
  }
}

variable "redis_prefix" {
  description = "SLOTCAST_REDIS_PREFIX of the nodes."
  type        = string
  default     = "slotcast"

  validation {
    condition     = can(regex("^[A-Za-z0-9_.:-]{1,64}$", var.redis_prefix))
    error_message = "redis_prefix must be 1 to 64 letters, digits, _, -, . or :."
  }
}

variable "network" {
  description = "The private subnets that the function is in and the Redis servers that it may reach there, by a name for each: by security group or by range. null: in no VPC, with a public address that is not fixed."
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
    redis = map(object({
      port              = number
      security_group_id = optional(string)
      cidr_ipv4         = optional(string)
    }))
  })
  default = null

  validation {
    condition     = var.network == null || try(length(var.network.subnet_ids) > 0 && length(var.network.redis) > 0, false)
    error_message = "network must name at least one subnet and one Redis."
  }

  validation {
    condition     = alltrue([for redis in try(values(var.network.redis), []) : (redis.security_group_id == null) != (redis.cidr_ipv4 == null)])
    error_message = "network.redis: each must have either security_group_id or cidr_ipv4."
  }

  validation {
    condition     = alltrue([for redis in try(values(var.network.redis), []) : redis.cidr_ipv4 == null || can(cidrnetmask(redis.cidr_ipv4))])
    error_message = "network.redis: cidr_ipv4 must be a range such as 203.0.113.0/24."
  }

  validation {
    condition     = alltrue([for redis in try(values(var.network.redis), []) : redis.port >= 1 && redis.port <= 65535])
    error_message = "network.redis: port must be from 1 to 65535."
  }
}

variable "enabled" {
  description = "Whether the schedule runs, and whether alarms are sent. false for maintenance."
  type        = bool
  default     = true
}

variable "memory_mb" {
  description = "The function's memory in MB, which also decides its share of a processor. The program needs about 10."
  type        = number
  default     = 128

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 1024
    error_message = "memory_mb must be from 128 to 1024."
  }
}

variable "timeout_seconds" {
  description = "How long a run may take: the sweep stops by itself at four fifths of it. Less than a minute, so that the next run finds the function free."
  type        = number
  default     = 50

  validation {
    condition     = var.timeout_seconds >= 5 && var.timeout_seconds <= 55
    error_message = "timeout_seconds must be from 5 to 55: the next run comes after 60."
  }
}

variable "log_filter" {
  description = "SLOTCAST_LOG, a tracing filter. It must let the info lines of slotcast through: the lateness alarm lives on them."
  type        = string
  default     = "info"

  validation {
    condition     = can(regex("(^|,)(slotcast=)?(info|debug|trace)(,|$)", var.log_filter))
    error_message = "log_filter must contain info, debug or trace, for everything or for slotcast: the lateness alarm reads the line of each sweep."
  }
}

variable "log_retention_days" {
  description = "How many days the log is kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch knows: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "errors_to_alarm" {
  description = "How many failed sweeps in five minutes raise the alarm."
  type        = number
  default     = 2

  validation {
    condition     = var.errors_to_alarm >= 1 && var.errors_to_alarm <= 5
    error_message = "errors_to_alarm must be from 1 to 5: there are five sweeps in that time."
  }
}

variable "lateness_to_alarm_ms" {
  description = "From what lateness on, in milliseconds, a freed hold raises the alarm. The schedule alone makes up to two minutes; nodes that sweep by themselves some milliseconds."
  type        = number
  default     = 180000

  validation {
    condition     = var.lateness_to_alarm_ms >= 1000
    error_message = "lateness_to_alarm_ms must be 1000 or more."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms are sent to. Without one they are only seen in the console."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics."
  }
}

variable "kms_key_arn" {
  description = "The KMS key that encrypts the environment, the log and the schedule, or null for those that AWS manages. Its policy must allow CloudWatch Logs: modules/key makes one."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key, or null."
  }
}

variable "permissions_boundary_arn" {
  description = "The permissions boundary of both roles, where the account demands one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam:", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of an IAM policy, or null."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
