# The scheduler's role is tied to this group, so that no other schedule can use the role.
resource "aws_scheduler_schedule_group" "sweeper" {
  name = var.name

  tags = var.tags
}

resource "aws_scheduler_schedule" "sweeper" {
  name        = var.name
  group_name  = aws_scheduler_schedule_group.sweeper.name
  description = "slotcast: one sweep each minute"
  state       = var.enabled ? "ENABLED" : "DISABLED"
  kms_key_arn = var.kms_key_arn

  schedule_expression = "rate(1 minute)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.sweeper.arn
    role_arn = aws_iam_role.scheduler.arn

    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }

    # Catches only the runs that could not be handed to Lambda. Runs that fail in Lambda go to the same queue by
    # themselves.
    dead_letter_config {
      arn = aws_sqs_queue.failures.arn
    }
  }
}
