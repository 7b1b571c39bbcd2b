output "address_to_let_in" {
  description = "What the Redis must let in, for Render's ipAllowList; null without fixed_address."
  value       = one([for address in aws_eip.out : "${address.public_ip}/32"])
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
