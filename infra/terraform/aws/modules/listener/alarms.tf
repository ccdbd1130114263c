# Alarms for the operator; docs/aws.md says what to do.

locals {
  topic = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
  counted = var.alarms ? {
    Accepted       = "\"mail accepted\""
    NotStored      = "\"mail not stored\""
    UntrustedProxy = "?\"PROXY header from an address that useProxy does not list\" ?\"no PROXY header from a proxy\""
  } : {}
  # What most alarms on one metric have.
  usual = {
    namespace  = "SmtpRelay"
    dimensions = null
    statistic  = "Sum"
    threshold  = 0
    period     = 300
    periods    = 1
    above      = true
    missing    = "notBreaching"
  }
  watched = {
    memory = {
      text      = "a listener uses more than 90 % of its memory"
      namespace = "AWS/ECS"
      metric    = "MemoryUtilization"
      dimensions = {
        ClusterName = aws_ecs_cluster.this.name
        ServiceName = aws_ecs_service.this.name
      }
      statistic = "Maximum"
      threshold = 90
      periods   = 2
    }
    untrusted-proxy = {
      text   = "clients are refused: their PROXY header comes from no balancer"
      metric = "UntrustedProxy-${var.name}"
    }
    quiet = {
      text      = "no mail was accepted for ${var.quiet_hours} hours"
      metric    = "Accepted-${var.name}"
      threshold = 1
      period    = 3600
      periods   = var.quiet_hours
      above     = false
      missing   = "breaching"
    }
    certificate = {
      text      = "the certificate ends within 14 days"
      metric    = "CertificateDays-${var.name}"
      statistic = "Minimum"
      threshold = 14
      period    = 21600
      above     = false
    }
  }
  # Some watch parts that not every configuration has.
  without = toset(concat(var.quiet_hours > 0 ? [] : ["quiet"], var.certificate ? [] : ["certificate"]))
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

# Each node of the balancer reports what it sees, and one that lags must not raise the alarm: AWS advises the
# maximum (Elastic Load Balancing, "CloudWatch metrics for your Network Load Balancer").
resource "aws_cloudwatch_metric_alarm" "healthy" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-healthy"
  alarm_description   = "fewer than ${var.least} listeners are healthy"
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = var.least
  treat_missing_data  = "breaching"
  alarm_actions       = local.topic
  ok_actions          = local.topic

  metric_query {
    id          = "least"
    expression  = "MIN([${join(",", [for index, _ in keys(var.ports) : "port${index}"])}])"
    label       = "healthy listeners of the port that has the fewest"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { for index, name in keys(var.ports) : "port${index}" => aws_lb_target_group.this[name].arn_suffix }

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/NetworkELB"
        metric_name = "HealthyHostCount"
        stat        = "Maximum"
        period      = 300

        dimensions = {
          LoadBalancer = aws_lb.this.arn_suffix
          TargetGroup  = metric_query.value
        }
      }
    }
  }
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
  from = aws_cloudwatch_metric_alarm.certificate[0]
  to   = aws_cloudwatch_metric_alarm.watched["certificate"]
}
