# The scheduled function. Each invocation is one sweep of all ended holds. A slot is free at the instant at which its hold
# ends, swept or not; the sweep announces it. So the next run makes up for a missed or refused one, and no run is repeated.

resource "aws_lambda_function" "sweeper" {
  #checkov:skip=CKV_AWS_50:One call to one store, whose time the log line of each sweep tells; traces would add nothing.
  #checkov:skip=CKV_AWS_116:What fails goes to the destination of the invoke configuration, which tells also why.
  #checkov:skip=CKV_AWS_272:The operator who applies this builds and uploads the package; signing needs a profile of the account's.
  function_name = var.name
  description   = "slotcast: frees holds that have ended"
  role          = aws_iam_role.function.arn

  runtime          = "provided.al2023"
  architectures    = [var.architecture]
  handler          = "bootstrap"
  filename         = var.package_file
  source_code_hash = filebase64sha256(var.package_file)
  memory_size      = var.memory_mb
  timeout          = var.timeout_seconds
  kms_key_arn      = var.kms_key_arn

  # Two sweeps at once would do no harm, but gain nothing.
  reserved_concurrent_executions = 1

  environment {
    variables = {
      REDIS_URL             = var.redis_url
      SLOTCAST_REDIS_PREFIX = var.redis_prefix
      SLOTCAST_LOG          = var.log_filter
    }
  }

  logging_config {
    # The function's lines are JSON already, and are kept as they are.
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.sweeper.name
  }

  dynamic "vpc_config" {
    for_each = var.network == null ? [] : [var.network]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = [aws_security_group.sweeper[0].id]
    }
  }

  tags = var.tags

  # The function cannot be made before its role may use the network.
  depends_on = [aws_iam_role_policy.function]
}

# The scheduler hands each run to Lambda's own queue. A run that has waited for a minute is useless, because the next one is
# due.
resource "aws_lambda_function_event_invoke_config" "sweeper" {
  function_name                = aws_lambda_function.sweeper.function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failures.arn
    }
  }
}

# Keeps the failed runs with their reasons for two weeks.
resource "aws_sqs_queue" "failures" {
  name                      = "${var.name}-failures"
  message_retention_seconds = 14 * 24 * 60 * 60
  sqs_managed_sse_enabled   = true

  tags = var.tags
}

resource "aws_cloudwatch_log_group" "sweeper" {
  #checkov:skip=CKV_AWS_338:A sweep's line is a report, not an audit trail: after a month nobody asks for it.
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn

  tags = var.tags
}

resource "aws_security_group" "sweeper" {
  count = var.network == null ? 0 : 1

  name_prefix = "${var.name}-"
  description = "slotcast sweeper: goes out to Redis, nothing comes in"
  vpc_id      = var.network.vpc_id

  tags = merge(var.tags, { Name = var.name })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "redis" {
  for_each = var.network == null ? {} : var.network.redis

  security_group_id            = aws_security_group.sweeper[0].id
  description                  = "Redis: ${each.key}"
  referenced_security_group_id = each.value.security_group_id
  cidr_ipv4                    = each.value.cidr_ipv4
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port

  tags = var.tags
}
