# Alarms for the operator; docs/aws.md says what to do.

locals {
  topic = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  written = {
    oldest = {
      text      = "a mail is unfinished for more than 30 minutes"
      metric    = "OldestUnfinished"
      statistic = "Maximum"
      threshold = 1800
      period    = 300
      above     = true
    }
    no-sweep = {
      text      = "no sweep of the spool for 15 minutes"
      metric    = "Sweeps"
      statistic = "Sum"
      threshold = 1
      period    = 900
      above     = false
    }
    dead = {
      text      = "outputs were given up: smtp-relay deadletter list"
      metric    = "Dead"
      statistic = "Maximum"
      threshold = 0
      period    = 300
      above     = true
    }
    ses-closed = {
      text      = "SES is closed: quota used up, paused or suspended"
      metric    = "SesClosed"
      statistic = "Sum"
      threshold = 0
      period    = 300
      above     = true
    }
    in-doubt = {
      text      = "calls got no answer: mails or messages may exist twice"
      metric    = "InDoubt"
      statistic = "Sum"
      threshold = 0
      period    = 300
      above     = true
    }
  }
  # Some watch parts that not every configuration has.
  without = toset(concat(var.ses ? [] : ["ses-closed"], var.receipts ? [] : ["in-doubt"]))
}

resource "aws_cloudwatch_metric_alarm" "written" {
  for_each = { for name, one in local.written : name => one if var.alarms && !contains(local.without, name) }

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  namespace           = "SmtpRelay"
  metric_name         = each.value.metric
  dimensions          = { service = var.name }
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = each.value.above ? "GreaterThanThreshold" : "LessThanThreshold"
  treat_missing_data  = each.value.above ? "notBreaching" : "breaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

resource "aws_cloudwatch_metric_alarm" "crashed" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-crashed"
  alarm_description   = "runs of the function crashed over and over"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

resource "aws_cloudwatch_log_metric_filter" "out_of_memory" {
  count = var.alarms ? 1 : 0

  name           = "OutOfMemory"
  log_group_name = aws_cloudwatch_log_group.function.name
  pattern        = "\"Runtime.OutOfMemory\""

  metric_transformation {
    namespace     = "SmtpRelay"
    name          = "OutOfMemory-${var.name}"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "function_memory" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-function-memory"
  alarm_description   = "the function ran out of memory"
  namespace           = "SmtpRelay"
  metric_name         = "OutOfMemory-${var.name}"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

resource "aws_cloudwatch_metric_alarm" "throttles" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-throttles"
  alarm_description   = "the account refuses to run the function: its quota is used up"
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-errors"
  alarm_description   = "the function fails"
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.this.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}
