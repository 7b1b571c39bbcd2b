# What must not drift: one sweep each minute, never repeated, seen when it fails, with no more rights than it needs.
#
# Attributes that are sets in the real provider are lists in the one of offline/: `toset` makes them alike.

mock_provider "aws" {
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-south-1:123456789012:function:sweeper" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-south-1:123456789012:sweeper-failures" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-south-1:123456789012:log-group:/aws/lambda/sweeper" }
  }

  mock_resource "aws_scheduler_schedule_group" {
    defaults = { arn = "arn:aws:scheduler:eu-south-1:123456789012:schedule-group/sweeper" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/sweeper" }
  }

  mock_resource "aws_security_group" {
    defaults = { id = "sg-0123456789abcdef0" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

variables {
  name             = "sweeper"
  package_file     = "tests/bootstrap.zip"
  redis_url        = "rediss-cluster://slotcast-sweeper:a-password@cache.example.org:6379"
  alarm_topic_arns = ["arn:aws:sns:eu-south-1:123456789012:alarms"]
}

run "runs_alone" {
  command = plan

  assert {
    condition     = aws_lambda_function.sweeper.reserved_concurrent_executions == 1
    error_message = "There must be one sweep at a time."
  }

  assert {
    condition     = aws_lambda_function.sweeper.timeout < 60
    error_message = "A sweep must have ended when the next one begins."
  }

  assert {
    condition     = aws_lambda_function.sweeper.runtime == "provided.al2023" && aws_lambda_function.sweeper.architectures == tolist(["x86_64"])
    error_message = "The function must run on what its package was built for."
  }

  assert {
    condition     = aws_lambda_function.sweeper.source_code_hash == filebase64sha256("tests/bootstrap.zip")
    error_message = "A new package must be a change."
  }

  assert {
    condition     = nonsensitive(aws_lambda_function.sweeper.environment[0].variables["REDIS_URL"] == var.redis_url && keys(aws_lambda_function.sweeper.environment[0].variables) == tolist(["REDIS_URL", "SLOTCAST_LOG", "SLOTCAST_REDIS_PREFIX"]))
    error_message = "The function must have what it reads, and nothing else."
  }

  assert {
    condition     = length(aws_lambda_function.sweeper.vpc_config) == 0 && length(aws_security_group.sweeper) == 0
    error_message = "Without a network there must be none."
  }
}

run "is_never_repeated" {
  command = apply

  assert {
    condition     = aws_lambda_function_event_invoke_config.sweeper.maximum_retry_attempts == 0 && aws_lambda_function_event_invoke_config.sweeper.maximum_event_age_in_seconds == 60
    error_message = "Lambda must repeat nothing, and keep no run for longer than until the next."
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.sweeper.function_name == aws_lambda_function.sweeper.function_name && aws_lambda_function_event_invoke_config.sweeper.destination_config[0].on_failure[0].destination == aws_sqs_queue.failures.arn
    error_message = "What fails must be kept in the queue."
  }

  assert {
    condition     = aws_scheduler_schedule.sweeper.target[0].retry_policy[0].maximum_retry_attempts == 0 && aws_scheduler_schedule.sweeper.target[0].retry_policy[0].maximum_event_age_in_seconds == 60
    error_message = "The scheduler must repeat nothing, and keep no run for longer than until the next."
  }

  assert {
    condition     = aws_scheduler_schedule.sweeper.target[0].dead_letter_config[0].arn == aws_sqs_queue.failures.arn
    error_message = "What could not be delivered must be kept in the queue."
  }

  assert {
    condition     = aws_sqs_queue.failures.sqs_managed_sse_enabled && aws_sqs_queue.failures.message_retention_seconds == 1209600
    error_message = "The queue must be encrypted, and keep what it has for two weeks."
  }
}

run "runs_each_minute" {
  command = apply

  assert {
    condition     = aws_scheduler_schedule.sweeper.schedule_expression == "rate(1 minute)" && aws_scheduler_schedule.sweeper.flexible_time_window[0].mode == "OFF" && aws_scheduler_schedule.sweeper.state == "ENABLED"
    error_message = "There must be a sweep each minute."
  }

  assert {
    condition     = aws_scheduler_schedule.sweeper.target[0].arn == aws_lambda_function.sweeper.arn && aws_scheduler_schedule.sweeper.target[0].role_arn == aws_iam_role.scheduler.arn
    error_message = "The schedule must invoke the sweeper, with its own role."
  }
}

run "has_only_the_rights_that_it_needs" {
  command = apply

  assert {
    condition = jsondecode(aws_iam_role_policy.function.policy).Statement == [
      {
        Sid      = "WriteItsLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "arn:aws:logs:eu-south-1:123456789012:log-group:/aws/lambda/sweeper:*"
      },
      {
        Sid      = "KeepWhatFailed"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = "arn:aws:sqs:eu-south-1:123456789012:sweeper-failures"
      },
    ]
    error_message = "The function may write its log and its queue, and nothing else."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.scheduler.policy).Statement == [
      {
        Sid      = "InvokeTheSweeper"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = "arn:aws:lambda:eu-south-1:123456789012:function:sweeper"
      },
      {
        Sid      = "KeepWhatWasNotDelivered"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = "arn:aws:sqs:eu-south-1:123456789012:sweeper-failures"
      },
    ]
    error_message = "The schedule may invoke the sweeper and write its queue, and nothing else."
  }

  assert {
    condition = jsondecode(aws_iam_role.scheduler.assume_role_policy).Statement[0].Principal.Service == "scheduler.amazonaws.com" && jsondecode(aws_iam_role.scheduler.assume_role_policy).Statement[0].Condition.StringEquals == {
      "aws:SourceAccount" = "123456789012"
      "aws:SourceArn"     = "arn:aws:scheduler:eu-south-1:123456789012:schedule-group/sweeper"
    }
    error_message = "The scheduler may take its role for schedules of this group alone."
  }

  assert {
    condition     = jsondecode(aws_iam_role.function.assume_role_policy).Statement == [{ Action = "sts:AssumeRole", Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" } }]
    error_message = "Only Lambda may take the function's role."
  }
}

run "with_a_key" {
  command = apply

  variables {
    kms_key_arn = "arn:aws:kms:eu-south-1:123456789012:key/1"
  }

  assert {
    condition     = aws_lambda_function.sweeper.kms_key_arn == var.kms_key_arn && aws_cloudwatch_log_group.sweeper.kms_key_id == var.kms_key_arn && aws_scheduler_schedule.sweeper.kms_key_arn == var.kms_key_arn
    error_message = "Environment, log and schedule must be encrypted with the key."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement if statement.Sid == "ReadItsEnvironment"] == [{ Sid = "ReadItsEnvironment", Effect = "Allow", Action = "kms:Decrypt", Resource = var.kms_key_arn }]
    error_message = "The function may read with that key alone."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.scheduler.policy).Statement : statement if statement.Sid == "ReadItsSchedule"] == [{ Sid = "ReadItsSchedule", Effect = "Allow", Action = "kms:Decrypt", Resource = var.kms_key_arn }]
    error_message = "The schedule may be read with that key alone."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.function.policy, "\"Resource\":\"*\"") && !strcontains(aws_iam_role_policy.scheduler.policy, "\"Resource\":\"*\"")
    error_message = "Outside of a VPC every right must name its resource."
  }
}

run "in_a_vpc" {
  command = apply

  variables {
    network = {
      vpc_id     = "vpc-0123456789abcdef0"
      subnet_ids = ["subnet-a", "subnet-b"]
      redis = {
        valkey  = { port = 6379, security_group_id = "sg-0aaaaaaaaaaaaaaa0" }
        outside = { port = 6380, cidr_ipv4 = "203.0.113.0/24" }
      }
    }
  }

  assert {
    condition     = toset(aws_lambda_function.sweeper.vpc_config[0].subnet_ids) == toset(["subnet-a", "subnet-b"]) && toset(aws_lambda_function.sweeper.vpc_config[0].security_group_ids) == toset([aws_security_group.sweeper[0].id])
    error_message = "The function must be in the subnets, with its own group."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.redis["valkey"].referenced_security_group_id == "sg-0aaaaaaaaaaaaaaa0" && aws_vpc_security_group_egress_rule.redis["valkey"].from_port == 6379 && aws_vpc_security_group_egress_rule.redis["valkey"].to_port == 6379
    error_message = "The function must reach Valkey by its group."
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.redis["outside"].cidr_ipv4 == "203.0.113.0/24" && aws_vpc_security_group_egress_rule.redis["outside"].from_port == 6380
    error_message = "The function must reach a range by its port."
  }

  # The network's rights are the only ones without a resource, and the function's own code does not have them.
  assert {
    condition     = toset([for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : "${statement.Effect} ${statement.Sid}" if statement.Resource == "*"]) == toset(["Allow BeInTheVpc", "Deny ButNotByItsCode"])
    error_message = "Only the rights on network interfaces may be without a resource."
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : alltrue([for action in statement.Action : startswith(action, "ec2:") && !strcontains(action, "*")]) if statement.Resource == "*"])
    error_message = "Rights without a resource must be named one by one."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement.Condition.ArnLike["lambda:SourceFunctionArn"] if statement.Effect == "Deny"] == ["arn:*:lambda:*:123456789012:function:sweeper"]
    error_message = "The function's own code must not make network interfaces."
  }
}

run "is_seen_when_it_fails" {
  command = plan

  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.this) == ["errors", "lateness", "missing", "throttles", "undelivered"]
    error_message = "There must be these alarms."
  }

  assert {
    condition     = { for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.treat_missing_data } == { errors = "notBreaching", lateness = "breaching", missing = "breaching", throttles = "notBreaching", undelivered = "notBreaching" }
    error_message = "No data must mean the right thing: runs that are missing have none."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["missing"].metric_name == "Invocations" && aws_cloudwatch_metric_alarm.this["missing"].comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.this["missing"].threshold == 1 && aws_cloudwatch_metric_alarm.this["missing"].period * aws_cloudwatch_metric_alarm.this["missing"].evaluation_periods == 180
    error_message = "Three minutes without a run must raise the alarm."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["errors"].metric_name == "Errors" && aws_cloudwatch_metric_alarm.this["errors"].dimensions == tomap({ FunctionName = "sweeper" })
    error_message = "Errors of the function must raise the alarm."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["lateness"].metric_name == aws_cloudwatch_log_metric_filter.lateness.metric_transformation[0].name && aws_cloudwatch_metric_alarm.this["lateness"].namespace == aws_cloudwatch_log_metric_filter.lateness.metric_transformation[0].namespace
    error_message = "The lateness that is watched must be the one that is read from the log."
  }

  assert {
    condition     = aws_cloudwatch_log_metric_filter.lateness.pattern == "{ $.message = \"swept\" && $.oldest_late_ms >= 0 }" && aws_cloudwatch_log_metric_filter.lateness.metric_transformation[0].value == "$.oldest_late_ms" && aws_cloudwatch_log_metric_filter.lateness.log_group_name == aws_cloudwatch_log_group.sweeper.name
    error_message = "The lateness must be read from the line of each sweep."
  }

  assert {
    condition     = aws_lambda_function.sweeper.logging_config[0].log_format == "Text" && aws_lambda_function.sweeper.logging_config[0].log_group == aws_cloudwatch_log_group.sweeper.name
    error_message = "The function's lines must come as they are into the group that is read."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.actions_enabled && toset(alarm.alarm_actions) == toset(var.alarm_topic_arns) && toset(alarm.ok_actions) == toset(var.alarm_topic_arns)])
    error_message = "Alarms must be sent when they begin and when they end."
  }

  assert {
    condition     = aws_cloudwatch_log_group.sweeper.retention_in_days == 30
    error_message = "The log must not be kept for good."
  }
}

run "can_be_paused" {
  command = plan

  variables {
    enabled = false
  }

  assert {
    condition     = aws_scheduler_schedule.sweeper.state == "DISABLED" && !anytrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.actions_enabled])
    error_message = "A pause must stop the schedule and the alarms."
  }
}

run "refuses_a_redis_in_the_clear" {
  command = plan

  variables {
    redis_url = "redis://sweeper:a-password@cache.example.org:6379"
  }

  expect_failures = [var.redis_url]
}

run "refuses_a_redis_without_a_login" {
  command = plan

  variables {
    redis_url = "rediss://cache.example.org:6379"
  }

  expect_failures = [var.redis_url]
}

run "refuses_a_package_that_is_not_there" {
  command = plan

  variables {
    package_file = "tests/nowhere/bootstrap.zip"
  }

  expect_failures = [var.package_file]
}

run "refuses_a_network_without_redis" {
  command = plan

  variables {
    network = { vpc_id = "vpc-0123456789abcdef0", subnet_ids = ["subnet-a"], redis = {} }
  }

  expect_failures = [var.network]
}

run "refuses_a_redis_that_is_nowhere" {
  command = plan

  variables {
    network = { vpc_id = "vpc-0123456789abcdef0", subnet_ids = ["subnet-a"], redis = { lost = { port = 6379 } } }
  }

  expect_failures = [var.network]
}

run "refuses_other_mistakes" {
  command = plan

  variables {
    name                     = "Sweeper!"
    architecture             = "riscv"
    redis_prefix             = "{a}"
    memory_mb                = 64
    timeout_seconds          = 60
    log_filter               = "error"
    log_retention_days       = 31
    errors_to_alarm          = 0
    lateness_to_alarm_ms     = 10
    alarm_topic_arns         = ["me@example.org"]
    kms_key_arn              = "alias/slotcast"
    permissions_boundary_arn = "boundary"
  }

  expect_failures = [
    var.name, var.architecture, var.redis_prefix, var.memory_mb, var.timeout_seconds, var.log_filter, var.log_retention_days,
    var.errors_to_alarm, var.lateness_to_alarm_ms, var.alarm_topic_arns, var.kms_key_arn, var.permissions_boundary_arn,
  ]
}
