output "redis_url_of_the_nodes" {
  description = "REDIS_URL of the nodes, once PASSWORD is replaced by node_password."
  value       = "rediss-cluster://${local.node_user}:PASSWORD@${module.valkey.host}:${module.valkey.port}"
}

output "vpc_id" {
  description = "The VPC that the nodes must be in."
  value       = local.vpc_id
}

output "subnet_ids" {
  description = "Its private subnets."
  value       = local.subnet_ids
}

output "function_name" {
  description = "The sweeper, for `aws lambda invoke`."
  value       = module.sweeper.function_name
}

output "log_group_name" {
  description = "The sweeper's log, for `aws logs tail`."
  value       = module.sweeper.log_group_name
}

output "failure_queue_url" {
  description = "What failed, for `aws sqs receive-message`."
  value       = module.sweeper.failure_queue_url
}

output "alarm_names" {
  description = "The sweeper's alarms, for `aws cloudwatch describe-alarms`."
  value       = module.sweeper.alarm_names
}

output "replication_group_id" {
  description = "Valkey, for `aws elasticache describe-replication-groups`."
  value       = module.valkey.replication_group_id
}
