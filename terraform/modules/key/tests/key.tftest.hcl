# What must not drift: the key turns over, and only this account and its logs use it.

mock_provider "aws" {
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-south-1:123456789012:key/1", key_id = "1" }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { region = "eu-south-1" }
  }
}

variables {
  name = "slotcast"
}

run "turns_over" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key must be rotated, and deleted only after a month."
  }

  assert {
    condition     = aws_kms_alias.this.name == "alias/slotcast"
    error_message = "The key must have its alias."
  }
}

run "is_of_this_account_and_its_logs" {
  command = plan

  assert {
    condition     = [for statement in jsondecode(aws_kms_key.this.policy).Statement : statement.Principal] == [{ AWS = "arn:aws:iam::123456789012:root" }, { Service = "logs.eu-south-1.amazonaws.com" }]
    error_message = "Only this account and its logs may use the key."
  }

  assert {
    condition     = jsondecode(aws_kms_key.this.policy).Statement[1].Condition.ArnLike["kms:EncryptionContext:aws:logs:arn"] == "arn:aws:logs:eu-south-1:123456789012:log-group:/aws/lambda/slotcast*"
    error_message = "Logs may use the key for this function's group alone."
  }
}

run "refuses_a_bad_name" {
  command = plan

  variables {
    name = "slot cast"
  }

  expect_failures = [var.name]
}
