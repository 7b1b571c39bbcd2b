# Each alarm says what to look at. All of them go to `alarm_topic_arns`, when they begin and when they end.

locals {
  namespace = "slotcast"

  alarms = {
    errors = {
      description = "Sweeps failed: the reason is in the log group and in the failure queue. Bookings are safe; freed slots are announced late."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = aws_lambda_function.sweeper.function_name }
      statistic   = "Sum"
      period      = 300
      periods     = 1
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = var.errors_to_alarm
      # A missing run counts as no error here. The alarm `missing` is for that.
      missing = "notBreaching"
    }

    missing = {
      description = "The sweeper has not run for three minutes: is the schedule enabled, and may its role invoke the function?"
      namespace   = "AWS/Lambda"
      metric      = "Invocations"
      dimensions  = { FunctionName = aws_lambda_function.sweeper.function_name }
      statistic   = "Sum"
      period      = 60
      periods     = 3
      comparison  = "LessThanThreshold"
      threshold   = 1
      # A function that is not invoked has no metric at all.
      missing = "breaching"
    }

    lateness = {
      description = "A hold was announced as free long after its end, or no sweep has succeeded for five minutes."
      namespace   = local.namespace
      metric      = local.lateness_metric
      dimensions  = null
      statistic   = "Maximum"
      period      = 300
      periods     = 1
      comparison  = "GreaterThanThreshold"
      threshold   = var.lateness_to_alarm_ms
      # Each sweep that succeeds logs its lateness.
      missing = "breaching"
    }

    throttles = {
      description = "Runs were refused because the one before was still at work: the store is slow, or there is more to free than a run can."
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = { FunctionName = aws_lambda_function.sweeper.function_name }
      statistic   = "Sum"
      period      = 300
      periods     = 1
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 3
      missing     = "notBreaching"
    }

    undelivered = {
      description = "The scheduler could not hand runs to Lambda: what it was told is in the failure queue."
      namespace   = "AWS/Scheduler"
      metric      = "TargetErrorCount"
      dimensions  = { ScheduleGroup = aws_scheduler_schedule_group.sweeper.name }
      statistic   = "Sum"
      period      = 300
      periods     = 1
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      missing     = "notBreaching"
    }
  }

  lateness_metric = "${var.name}-oldest-late-ms"
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing
  actions_enabled     = var.enabled
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns

  tags = var.tags
}

# The line that the function logs at each sweep that succeeds:
#   {"timestamp":"…","level":"INFO","message":"swept","freed":2,"spaces":1,"oldest_late_ms":340,"took_ms":91,…}
resource "aws_cloudwatch_log_metric_filter" "lateness" {
  name           = "${var.name}-lateness"
  log_group_name = aws_cloudwatch_log_group.sweeper.name
  pattern        = "{ $.message = \"swept\" && $.oldest_late_ms >= 0 }"

  metric_transformation {
    namespace = local.namespace
    name      = local.lateness_metric
    value     = "$.oldest_late_ms"
    unit      = "Milliseconds"
  }
}
