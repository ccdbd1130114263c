# Copies an exportable certificate of ACM into the secret that the listener reads, whenever it is renewed.

locals {
  given  = startswith(var.secret, "arn:")
  secret = local.given ? var.secret : aws_secretsmanager_secret.this[0].arn
}

resource "aws_secretsmanager_secret" "this" {
  count = local.given ? 0 : 1

  name        = var.secret
  description = "Certificate and key of the mail relay"
  # ACM has the certificate still, and the name is free again.
  recovery_window_in_days = 0
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}-certificate"
  retention_in_days = 30
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

resource "aws_iam_role" "this" {
  name_prefix        = "${var.name}-certificate-"
  assume_role_policy = data.aws_iam_policy_document.lambda.json
}

resource "aws_iam_role_policy" "this" {
  name   = "own"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.own.json
}

data "aws_iam_policy_document" "own" {
  statement {
    sid       = "Export"
    actions   = ["acm:ExportCertificate"]
    resources = [var.certificate_arn]
  }

  statement {
    sid       = "Save"
    actions   = ["secretsmanager:PutSecretValue"]
    resources = [local.secret]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${var.place.partition}:logs:${var.place.region}:${var.place.account}:log-group:${aws_cloudwatch_log_group.this.name}:*"]
  }
}

resource "aws_lambda_function" "this" {
  function_name    = "${var.name}-certificate"
  description      = "Stores a renewed certificate for the mail relay"
  role             = aws_iam_role.this.arn
  filename         = var.archive
  source_code_hash = filebase64sha256(var.archive)
  handler          = "index.handler"
  runtime          = var.runtime
  architectures    = ["arm64"]
  timeout          = 60

  environment {
    variables = merge({ CERTIFICATE = var.certificate_arn, SECRET = local.secret }, var.environment)
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  depends_on = [aws_iam_role_policy.this]
}

resource "aws_cloudwatch_event_rule" "renewed" {
  name        = "${var.name}-certificate"
  description = "ACM has renewed the mail relay's certificate"

  event_pattern = jsonencode({
    source      = ["aws.acm"]
    detail-type = ["ACM Certificate Available"]
    resources   = [var.certificate_arn]
  })
}

resource "aws_cloudwatch_event_target" "renewed" {
  rule = aws_cloudwatch_event_rule.renewed.name
  arn  = aws_lambda_function.this.arn
}

resource "aws_lambda_permission" "renewed" {
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.renewed.arn
}

# The tasks do not start before the secret holds a certificate.
resource "aws_lambda_invocation" "stored" {
  function_name = aws_lambda_function.this.function_name
  input         = jsonencode({})
  triggers      = { certificate = var.certificate_arn, secret = local.secret }
}
