# Looks through the spool every five minutes for unfinished mails.

resource "aws_iam_role" "schedule" {
  name_prefix        = "${var.name}-schedule-"
  assume_role_policy = data.aws_iam_policy_document.scheduler.json
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.place.account]
    }
  }
}

resource "aws_iam_role_policy" "schedule" {
  name   = "own"
  role   = aws_iam_role.schedule.id
  policy = data.aws_iam_policy_document.sweep.json
}

data "aws_iam_policy_document" "sweep" {
  statement {
    sid       = "Sweep"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.this.arn]
  }
}

resource "aws_scheduler_schedule" "sweep" {
  name                = "${var.name}-sweep"
  description         = "Looks through the spool for unfinished mails"
  schedule_expression = "rate(5 minutes)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this.arn
    role_arn = aws_iam_role.schedule.arn
    input    = jsonencode({ sweep = true })

    retry_policy {
      maximum_retry_attempts       = 1
      maximum_event_age_in_seconds = 120
    }
  }
}
