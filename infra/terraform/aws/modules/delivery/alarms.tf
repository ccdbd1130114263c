# Alarms for the operator; docs/aws.md says what to do.

locals {
  topic = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  # What most alarms have; the dimension is that of the metrics that the function writes.
  usual = {
    namespace  = "SmtpRelay"
    dimensions = { service = var.name }
    statistic  = "Sum"
    threshold  = 0
    period     = 300
    periods    = 1
    above      = true
    missing    = "notBreaching"
  }
  watched = {
    oldest = {
      text      = "a mail is unfinished for more than 30 minutes"
      metric    = "OldestUnfinished"
      statistic = "Maximum"
      threshold = 1800
    }
    no-sweep = {
      text      = "no sweep of the spool for 15 minutes"
      metric    = "Sweeps"
      threshold = 1
      period    = 900
      above     = false
      missing   = "breaching"
    }
    dead = {
      text      = "outputs were given up: smtp-relay deadletter list"
      metric    = "Dead"
      statistic = "Maximum"
    }
    ses-closed = {
      text   = "SES is closed: quota used up, paused or suspended"
      metric = "SesClosed"
    }
    in-doubt = {
      text   = "calls got no answer: mails or messages may exist twice"
      metric = "InDoubt"
    }
    no-login = {
      text   = "an output cannot log in: a password, or OAuth"
      metric = "NoLogin"
    }
    crashed = {
      text       = "runs of the function crashed over and over"
      namespace  = "AWS/SQS"
      metric     = "ApproximateNumberOfMessagesVisible"
      dimensions = { QueueName = aws_sqs_queue.dead_letters.name }
      statistic  = "Maximum"
    }
    function-memory = {
      text       = "the function ran out of memory"
      metric     = "OutOfMemory-${var.name}"
      dimensions = null
    }
    throttles = {
      text       = "the account refuses to run the function: its quota is used up"
      namespace  = "AWS/Lambda"
      metric     = "Throttles"
      dimensions = { FunctionName = aws_lambda_function.this.function_name }
      periods    = 2
    }
    errors = {
      text       = "the function fails"
      namespace  = "AWS/Lambda"
      metric     = "Errors"
      dimensions = { FunctionName = aws_lambda_function.this.function_name }
      periods    = 2
    }
  }
  # Some watch parts that not every configuration has.
  without = toset(concat(var.ses ? [] : ["ses-closed"], var.receipts ? [] : ["in-doubt", "no-login"]))
}

resource "aws_cloudwatch_metric_alarm" "watched" {
  for_each = { for name, one in local.watched : name => merge(local.usual, one) if var.alarms && !contains(local.without, name) }

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  threshold           = each.value.threshold
  comparison_operator = each.value.above ? "GreaterThanThreshold" : "LessThanThreshold"
  treat_missing_data  = each.value.missing
  alarm_actions       = local.topic
  ok_actions          = local.topic
}

moved {
  from = aws_cloudwatch_metric_alarm.written
  to   = aws_cloudwatch_metric_alarm.watched
}

moved {
  from = aws_cloudwatch_metric_alarm.crashed[0]
  to   = aws_cloudwatch_metric_alarm.watched["crashed"]
}

moved {
  from = aws_cloudwatch_metric_alarm.errors[0]
  to   = aws_cloudwatch_metric_alarm.watched["errors"]
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
