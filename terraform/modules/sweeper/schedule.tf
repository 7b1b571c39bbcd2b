# The group is what the scheduler's role is tied to: no other schedule can use it.
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

    # Catches only what could not be handed to Lambda; what Lambda could not do goes to the same queue by itself.
    dead_letter_config {
      arn = aws_sqs_queue.failures.arn
    }
  }
}
