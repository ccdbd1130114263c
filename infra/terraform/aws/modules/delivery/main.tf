# The queue that uploads notify, and the function that delivers.

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 14 * 24 * 3600
}

resource "aws_sqs_queue" "doorbells" {
  name = "${var.name}-doorbells"
  # S3 cannot use the key that AWS manages for SQS; this one needs none.
  sqs_managed_sse_enabled    = true
  message_retention_seconds  = 4 * 24 * 3600
  visibility_timeout_seconds = 6 * var.timeout

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 10
  })
}

resource "aws_sqs_queue_policy" "doorbells" {
  queue_url = aws_sqs_queue.doorbells.id
  policy    = data.aws_iam_policy_document.doorbells.json
}

data "aws_iam_policy_document" "doorbells" {
  statement {
    sid       = "UploadsRing"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.doorbells.arn]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [var.bucket_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.place.account]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.doorbells.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  policy    = data.aws_iam_policy_document.dead_letters.json
}

data "aws_iam_policy_document" "dead_letters" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.dead_letters.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_notification" "uploads" {
  bucket = var.bucket

  queue {
    queue_arn     = aws_sqs_queue.doorbells.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "${var.prefix}spool/"
  }

  # S3 checks at once that it may send there.
  depends_on = [aws_sqs_queue_policy.doorbells]
}

resource "aws_dynamodb_table" "receipts" {
  count = var.receipts ? 1 : 0

  name         = "${var.name}-receipts"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"
  # Without receipts, unfinished mails of a bucket would be sent again.
  deletion_protection_enabled = !var.ephemeral

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "expiration"
    enabled        = true
  }
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = 30
}

resource "aws_iam_role" "function" {
  name_prefix        = "${var.name}-function-"
  assume_role_policy = data.aws_iam_policy_document.lambda.json
}

data "aws_iam_policy_document" "lambda" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "function" {
  name = "own"
  role = aws_iam_role.function.id

  policy = templatefile(var.policy, merge(var.place, {
    bucket    = var.bucket_arn
    queue     = aws_sqs_queue.doorbells.arn
    table     = var.receipts ? aws_dynamodb_table.receipts[0].arn : ""
    log_group = "arn:${var.place.partition}:logs:${var.place.region}:${var.place.account}:log-group:${aws_cloudwatch_log_group.function.name}"
    key       = var.key_arn == null ? "" : var.key_arn
  }))
}

resource "aws_lambda_function" "this" {
  function_name    = var.name
  description      = "Delivers the mails of a spool"
  role             = aws_iam_role.function.arn
  filename         = var.archive
  source_code_hash = filebase64sha256(var.archive)
  handler          = "functions.aws.handler.handler"
  runtime          = var.runtime
  architectures    = [var.architecture]
  memory_size      = var.memory
  timeout          = var.timeout

  environment {
    variables = merge(
      {
        SMTP_RELAY_SPOOL     = trimsuffix("s3://${var.bucket}/${var.prefix}", "/")
        SMTP_RELAY_QUEUE_URL = aws_sqs_queue.doorbells.url
        # It separates the metrics of several relays in one account.
        POWERTOOLS_SERVICE_NAME  = var.name
        PYDANTIC_DISABLE_PLUGINS = "1"
      },
      var.receipts ? { SMTP_RELAY_RECEIPTS_TABLE = aws_dynamodb_table.receipts[0].name } : {},
      var.ses ? { SMTP_RELAY_SES_CONCURRENCY = tostring(var.concurrency) } : {},
      var.environment,
    )
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) == 0 ? [] : [var.subnet_ids]

    content {
      subnet_ids         = vpc_config.value
      security_group_ids = [aws_security_group.function[0].id]
    }
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.function.name
  }

  depends_on = [aws_iam_role_policy.function, aws_iam_role_policy.network]
}

resource "aws_security_group" "function" {
  count = length(var.subnet_ids) == 0 ? 0 : 1

  name_prefix = "${var.name}-function-"
  description = "The function of the mail relay"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "function" {
  count = length(var.subnet_ids) == 0 ? 0 : 1

  security_group_id = aws_security_group.function[0].id
  description       = "to the clouds and to smarthosts"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_iam_role_policy" "network" {
  count = length(var.subnet_ids) == 0 ? 0 : 1

  name   = "network"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.network.json
}

# Lambda asks for these on everything.
data "aws_iam_policy_document" "network" {
  statement {
    sid = "Network"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]
  }
}

resource "aws_lambda_event_source_mapping" "doorbells" {
  event_source_arn                   = aws_sqs_queue.doorbells.arn
  function_name                      = aws_lambda_function.this.arn
  batch_size                         = 10
  maximum_batching_window_in_seconds = 0
  function_response_types            = ["ReportBatchItemFailures"]

  # Mails that wait for SES's send rate, or for a place, wait in the queue.
  scaling_config {
    maximum_concurrency = var.concurrency
  }
}
