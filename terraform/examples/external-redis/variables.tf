variable "region" {
  description = "The AWS region, near the Redis."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be a region's name, such as eu-central-1."
  }
}

variable "name" {
  description = "What the names of everything begin with: 2 to 32 lower-case letters, digits and single hyphens."
  type        = string
  default     = "slotcast-sweeper"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,31}$", var.name)) && length(var.name) <= 32
    error_message = "name must be 2 to 32 lower-case letters, digits and single hyphens, and begin with a letter."
  }
}

variable "redis_url" {
  description = "REDIS_URL as it is from outside, encrypted and with a login, such as Render's external URL: rediss://USER:PASSWORD@HOST:6379. It is in the state."
  type        = string
  sensitive   = true
}

variable "redis_prefix" {
  description = "SLOTCAST_REDIS_PREFIX of the nodes."
  type        = string
  default     = "slotcast"
}

variable "fixed_address" {
  description = "Whether the function goes out from one fixed address, by a NAT gateway, which costs some 30 to 40 dollars a month. Needed where the Redis lets in known addresses alone, as Render's does (ipAllowList)."
  type        = bool
  default     = true
}

variable "redis_port" {
  description = "With fixed_address: the port of redis_url, the only one that the function may reach."
  type        = number
  default     = 6379
}

variable "redis_cidrs" {
  description = "With fixed_address: the ranges that the Redis may be in. All, where it has a name and no fixed address."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.redis_cidrs) > 0 && alltrue([for range in var.redis_cidrs : can(cidrnetmask(range))])
    error_message = "redis_cidrs must be ranges such as 203.0.113.0/24, at least one."
  }
}

variable "vpc_cidr" {
  description = "With fixed_address: the range of the VPC."
  type        = string
  default     = "10.62.0.0/24"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 24, false)
    error_message = "vpc_cidr must be a range from /16 to /24."
  }
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
