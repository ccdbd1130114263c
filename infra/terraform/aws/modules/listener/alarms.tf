# Alarms for the operator; docs/aws.md says what to do.

locals {
  topic = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  counted = var.alarms ? {
    Accepted  = "\"mail accepted\""
    NotStored = "\"mail not stored\""
  } : {}
}

resource "aws_cloudwatch_log_metric_filter" "counted" {
  for_each = local.counted

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = each.value

  metric_transformation {
    namespace     = "SmtpRelay"
    name          = "${each.key}-${var.name}"
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_log_metric_filter" "certificate" {
  count = var.alarms && var.certificate ? 1 : 0

  name           = "CertificateDays"
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = "{ $.message = \"certificate\" && $.days = * }"

  metric_transformation {
    namespace = "SmtpRelay"
    name      = "CertificateDays-${var.name}"
    value     = "$.days"
  }
}

resource "aws_cloudwatch_metric_alarm" "deferred" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-deferred"
  alarm_description   = "mails are answered 451: the spool cannot be written"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic

  metric_query {
    id          = "rate"
    expression  = "100 * bad / (bad + good)"
    label       = "mails answered 451 (%)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { bad = "NotStored", good = "Accepted" }

    content {
      id = metric_query.key

      metric {
        namespace   = "SmtpRelay"
        metric_name = "${metric_query.value}-${var.name}"
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "healthy" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-healthy"
  alarm_description   = "fewer than two listeners are healthy"
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Minimum"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = local.least
  treat_missing_data  = "breaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic

  dimensions = {
    LoadBalancer = aws_lb.this.arn_suffix
    TargetGroup  = aws_lb_target_group.this[keys(var.ports)[0]].arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "certificate" {
  count = var.alarms && var.certificate ? 1 : 0

  alarm_name          = "${var.name}-certificate"
  alarm_description   = "the certificate ends within 14 days"
  namespace           = "SmtpRelay"
  metric_name         = "CertificateDays-${var.name}"
  statistic           = "Minimum"
  period              = 21600
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 14
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic
}
