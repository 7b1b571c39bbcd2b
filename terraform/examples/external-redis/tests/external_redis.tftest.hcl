# That the function goes out from the address that the Redis elsewhere lets in.

mock_provider "aws" {
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:sweeper" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:failures" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/lambda/sweeper" }
  }

  mock_resource "aws_scheduler_schedule_group" {
    defaults = { arn = "arn:aws:scheduler:eu-central-1:123456789012:schedule-group/sweeper" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/sweeper" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/1", key_id = "1" }
  }

  mock_resource "aws_eip" {
    defaults = { public_ip = "198.51.100.7", id = "eipalloc-1" }
  }

  mock_resource "aws_nat_gateway" {
    defaults = { id = "nat-1" }
  }

  mock_resource "aws_internet_gateway" {
    defaults = { id = "igw-1" }
  }

  mock_resource "aws_vpc" {
    defaults = { id = "vpc-0new0000000000000" }
  }

  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b"] }
  }
}

variables {
  region       = "eu-central-1"
  package_file = "tests/bootstrap.zip"
  redis_url    = "rediss://red-abc:a-password@frankfurt-keyvalue.example.org:6379"
}

run "goes_out_from_one_address" {
  command = apply

  assert {
    condition     = output.address_to_let_in == "198.51.100.7/32"
    error_message = "The address must be told."
  }

  assert {
    condition     = aws_nat_gateway.this[0].allocation_id == "eipalloc-1" && aws_nat_gateway.this[0].subnet_id == aws_subnet.public[0].id
    error_message = "The gateway must have that address, in the public subnet."
  }

  assert {
    condition     = aws_route.out[0].nat_gateway_id == "nat-1" && aws_route.out[0].route_table_id == aws_route_table.private[0].id && aws_route_table_association.private[0].subnet_id == aws_subnet.private[0].id
    error_message = "The private subnet must go out by the gateway."
  }

  assert {
    condition     = aws_route.internet[0].gateway_id == "igw-1" && aws_route_table_association.public[0].subnet_id == aws_subnet.public[0].id
    error_message = "The gateway must go out to the internet."
  }
}

run "goes_out_from_anywhere" {
  command = apply

  variables {
    fixed_address = false
  }

  assert {
    condition     = output.address_to_let_in == null && length(aws_vpc.this) + length(aws_nat_gateway.this) + length(aws_eip.out) == 0
    error_message = "Without a fixed address there must be no network."
  }
}

run "refuses_mistakes" {
  command = plan

  variables {
    region      = "Frankfurt"
    name        = "Sweeper"
    redis_cidrs = ["somewhere"]
    vpc_cidr    = "10.0.0.0/28"
  }

  expect_failures = [var.region, var.name, var.redis_cidrs, var.vpc_cidr]
}
