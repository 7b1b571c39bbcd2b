output "function_name" {
  description = "The function's name."
  value       = aws_lambda_function.sweeper.function_name
}

output "function_arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.sweeper.arn
}

output "log_group_name" {
  description = "Where each sweep leaves a line."
  value       = aws_cloudwatch_log_group.sweeper.name
}

output "failure_queue_url" {
  description = "Where failed runs are kept, with the reason."
  value       = aws_sqs_queue.failures.url
}

output "security_group_id" {
  description = "The function's security group, or null without a VPC."
  value       = one(aws_security_group.sweeper[*].id)
}

output "alarm_names" {
  description = "The alarms, for the AWS command line."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])
}
