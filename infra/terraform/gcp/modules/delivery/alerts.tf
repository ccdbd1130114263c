# Alerts on the function's log. Those on single entries match the log itself: a metric that was made a moment ago is
# unknown to Cloud Monitoring for up to ten minutes, and the alert on it is refused.

locals {
  said  = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local.function}\""
  swept = "${local.said} AND jsonPayload.message=\"swept\""

  # The sweep counts the bucket's content.
  entries = {
    oldest = {
      filter = "${local.swept} AND jsonPayload.oldest>${var.oldest_minutes * 60}"
      title  = "mail is unfinished for more than ${var.oldest_minutes} minutes"
    }
    dead = {
      filter = "${local.swept} AND jsonPayload.dead>0"
      title  = "there are dead letters"
    }
    errors = {
      filter = "${local.said} AND jsonPayload.message=~\"unexpected fault\""
      title  = "the function fails"
    }
    in-doubt = {
      filter = "${local.said} AND jsonPayload.in_doubt=true"
      title  = "calls got no answer: mails or messages may exist twice"
    }
    no-login = {
      filter = "${local.said} AND jsonPayload.no_login=true"
      title  = "an output cannot log in: a password, or OAuth"
    }
    function-memory = {
      filter = "${local.said} AND severity>=ERROR AND textPayload=~\"Memory limit of .* exceeded\""
      title  = "the function ran out of memory"
    }
  }
}

resource "google_monitoring_alert_policy" "entries" {
  for_each = local.entries

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = each.value.title

    condition_matched_log {
      filter = each.value.filter
    }
  }

  # Both are required of alerts on logs. An incident without further entries is closed.
  alert_strategy {
    auto_close = "1800s"

    notification_rate_limit {
      period = "3600s"
    }
  }
}

moved {
  from = google_monitoring_alert_policy.gauges["oldest"]
  to   = google_monitoring_alert_policy.entries["oldest"]
}

moved {
  from = google_monitoring_alert_policy.gauges["dead"]
  to   = google_monitoring_alert_policy.entries["dead"]
}

# What is missing matches no entry, so this one needs a metric.
resource "google_logging_metric" "sweeps" {
  project     = var.project
  name        = "${var.name}-sweeps"
  description = "Sweeps that ended."
  filter      = local.swept

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

resource "time_sleep" "metrics" {
  create_duration = "600s"
  triggers        = { metric = google_logging_metric.sweeps.id }
}

resource "google_monitoring_alert_policy" "no_sweep" {
  project               = var.project
  display_name          = "${var.name}: no sweep for 15 minutes"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "no sweep"

    condition_absent {
      filter   = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.sweeps.name}\""
      duration = "900s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  depends_on = [time_sleep.metrics]
}

resource "google_monitoring_alert_policy" "crashed" {
  project               = var.project
  display_name          = "${var.name}: notifications whose run crashed"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "messages in ${google_pubsub_subscription.dead.name}"

    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead.name}\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}
