# That the parts fit together: who reaches whom, and with which password.

mock_provider "aws" {
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-south-1:123456789012:function:sweeper" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-south-1:123456789012:failures" }
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

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-south-1:123456789012:key/1", key_id = "1" }
  }

  mock_resource "aws_elasticache_replication_group" {
    defaults = { configuration_endpoint_address = "clustercfg.slotcast.example.org" }
  }

  mock_resource "aws_vpc" {
    defaults = { id = "vpc-0new0000000000000" }
  }

  mock_resource "aws_security_group" {
    defaults = { id = "sg-0new0000000000000" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-south-1a", "eu-south-1b", "eu-south-1c"] }
  }
}

variables {
  region           = "eu-south-1"
  package_file     = "tests/bootstrap.zip"
  node_password    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  sweeper_password = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
}

run "in_a_vpc_of_its_own" {
  command = apply

  assert {
    condition     = output.redis_url_of_the_nodes == "rediss-cluster://slotcast-node:PASSWORD@clustercfg.slotcast.example.org:6379"
    error_message = "The nodes must be told where Valkey is, and no password."
  }

  assert {
    condition     = output.vpc_id == "vpc-0new0000000000000" && length(output.subnet_ids) == 2
    error_message = "There must be a VPC with two subnets."
  }

  assert {
    condition     = [for subnet in aws_subnet.private : subnet.availability_zone] == ["eu-south-1a", "eu-south-1b"] && !anytrue([for subnet in aws_subnet.private : subnet.map_public_ip_on_launch])
    error_message = "The subnets must be private, in two zones."
  }

  assert {
    condition     = [for subnet in aws_subnet.private : subnet.cidr_block] == ["10.61.0.0/24", "10.61.1.0/24"]
    error_message = "The subnets must be in the VPC's range."
  }

  assert {
    condition     = output.function_name == "slotcast-sweeper" && length(output.alarm_names) == 5
    error_message = "There must be the sweeper, with its alarms."
  }
}

run "in_a_vpc_that_is_there" {
  command = apply

  variables {
    vpc_id                  = "vpc-0123456789abcdef0"
    subnet_ids              = ["subnet-a", "subnet-b"]
    node_security_group_ids = { nodes = "sg-0aaaaaaaaaaaaaaa0" }
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && length(aws_subnet.private) == 0 && output.subnet_ids == tolist(["subnet-a", "subnet-b"])
    error_message = "Nothing of the network may be made."
  }
}

run "refuses_subnets_of_nothing" {
  command = plan

  variables {
    subnet_ids = ["subnet-a", "subnet-b"]
  }

  expect_failures = [var.subnet_ids]
}

run "refuses_other_mistakes" {
  command = plan

  variables {
    region   = "Milano"
    name     = "a-name-that-is-far-too-long-for-all-that-is-added"
    vpc_cidr = "10.0.0.0/28"
  }

  expect_failures = [var.region, var.name, var.vpc_cidr]
}
