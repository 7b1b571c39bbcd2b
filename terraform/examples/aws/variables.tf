variable "region" {
  description = "The AWS region, one that has durable ElastiCache."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be a region's name, such as eu-south-1."
  }
}

variable "name" {
  description = "What the names of everything begin with: 2 to 24 lower-case letters, digits and single hyphens."
  type        = string
  default     = "slotcast"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,23}$", var.name)) && length(var.name) <= 24
    error_message = "name must be 2 to 24 lower-case letters, digits and single hyphens, and begin with a letter."
  }
}

variable "vpc_id" {
  description = "The VPC that the nodes are in; null makes a new one."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "With vpc_id: private subnets of it, at least two, in different availability zones."
  type        = list(string)
  default     = []

  validation {
    condition     = (var.vpc_id == null) == (length(var.subnet_ids) == 0)
    error_message = "subnet_ids must be set with vpc_id, and only with it."
  }
}

variable "vpc_cidr" {
  description = "Without vpc_id: the range of the new VPC."
  type        = string
  default     = "10.61.0.0/20"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "vpc_cidr must be a range from /16 to /22."
  }
}

variable "node_security_group_ids" {
  description = "Security groups of the slotcast nodes, by a name for each: they may connect to Valkey."
  type        = map(string)
  default     = {}
}

variable "node_password" {
  description = "Valkey's password for the nodes: `openssl rand -hex 32`. Never kept in the state."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "node_password_version" {
  description = "To be raised with each change of node_password."
  type        = number
  default     = 1
}

variable "sweeper_password" {
  description = "Valkey's password for the sweeper: `openssl rand -hex 32`. In the state, as a part of the function's environment."
  type        = string
  sensitive   = true
}

variable "sweeper_password_version" {
  description = "To be raised with each change of sweeper_password."
  type        = number
  default     = 1
}

variable "node_type" {
  description = "Valkey's node type."
  type        = string
  default     = "cache.m7g.large"
}

variable "shards" {
  description = "How many shards Valkey has."
  type        = number
  default     = 1
}

variable "replicas" {
  description = "Replicas of each shard."
  type        = number
  default     = 1
}

variable "apply_immediately" {
  description = "Whether changes of Valkey are made at once, and not in the maintenance window."
  type        = bool
  default     = false
}

variable "architecture" {
  description = "What the function's package was built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
}

variable "package_file" {
  description = "The function's package; null for where ./scripts/package-lambda puts it."
  type        = string
  default     = null
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms are sent to."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "More tags of everything."
  type        = map(string)
  default     = {}
}
