data "aws_caller_identity" "current" {}

# The function's role.

resource "aws_iam_role" "function" {
  name_prefix          = "${var.name}-"
  description          = "slotcast sweeper: what the function may do"
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })

  tags = var.tags
}

resource "aws_iam_role_policy" "function" {
  name = "sweep"
  role = aws_iam_role.function.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "WriteItsLog"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.sweeper.arn}:*"
        },
        {
          Sid      = "KeepWhatFailed"
          Effect   = "Allow"
          Action   = "sqs:SendMessage"
          Resource = aws_sqs_queue.failures.arn
        },
      ],
      [for key in local.kms_keys : {
        Sid      = "ReadItsEnvironment"
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = key
      }],
      # Lambda makes the function's network interfaces with its role. It asks for these rights on everything when the
      # function is made; the second statement takes them from the function's own code.
      [for network in local.networks : {
        Sid    = "BeInTheVpc"
        Effect = "Allow"
        Action = local.network_actions
        # Actions on interfaces that do not exist yet have no narrower resource.
        Resource = "*"
      }],
      [for network in local.networks : {
        Sid      = "ButNotByItsCode"
        Effect   = "Deny"
        Action   = local.network_actions
        Resource = "*"
        Condition = {
          ArnLike = { "lambda:SourceFunctionArn" = "arn:*:lambda:*:${data.aws_caller_identity.current.account_id}:function:${var.name}" }
        }
      }],
    )
  })
}

# The scheduler's role.

resource "aws_iam_role" "scheduler" {
  name_prefix          = "${var.name}-"
  description          = "slotcast sweeper: what its schedule may do"
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "scheduler.amazonaws.com" }
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = data.aws_caller_identity.current.account_id
          "aws:SourceArn"     = aws_scheduler_schedule_group.sweeper.arn
        }
      }
    }]
  })

  tags = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name = "invoke"
  role = aws_iam_role.scheduler.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "InvokeTheSweeper"
          Effect   = "Allow"
          Action   = "lambda:InvokeFunction"
          Resource = aws_lambda_function.sweeper.arn
        },
        {
          Sid      = "KeepWhatWasNotDelivered"
          Effect   = "Allow"
          Action   = "sqs:SendMessage"
          Resource = aws_sqs_queue.failures.arn
        },
      ],
      [for key in local.kms_keys : {
        Sid      = "ReadItsSchedule"
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = key
      }],
    )
  })
}

locals {
  # Each list has one element or none: its statement is there only with a key, or with a network.
  kms_keys = var.kms_key_arn == null ? [] : [var.kms_key_arn]
  networks = var.network == null ? [] : [var.network.vpc_id]

  network_actions = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]
}
