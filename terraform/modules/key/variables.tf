variable "name" {
  description = "The key's alias, and what the names of the functions begin with whose logs it encrypts."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9]|-[a-z0-9]){1,31}$", var.name)) && length(var.name) <= 32
    error_message = "name must be 2 to 32 lower-case letters, digits and single hyphens, and begin with a letter."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
