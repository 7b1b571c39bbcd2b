output "host" {
  description = "The configuration endpoint: any number of shards is found through it."
  value       = aws_elasticache_replication_group.this.configuration_endpoint_address
}

output "port" {
  description = "The port, with TLS alone."
  value       = local.port
}

output "replication_group_id" {
  description = "The cluster's id, for the AWS command line."
  value       = aws_elasticache_replication_group.this.id
}

output "security_group_id" {
  description = "The security group that Valkey is in."
  value       = aws_security_group.this.id
}

output "access_strings" {
  description = "What each role may do, as Valkey's ACL has it."
  value       = local.access_strings
}
