# The metrics come from the sweep's own log entry, because it counts the bucket's content.

locals {
  swept = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloudfunctions2_function.delivery.name}\" AND jsonPayload.message=\"swept\""

  # Metric → the field of the entry, and the value from which on an alert is raised. A distribution keeps
  # ranges, not values: the threshold is the border of two, and lower values lie in the first.
  gauges = {
    oldest = {
      field     = "oldest"
      threshold = var.oldest_minutes * 60
      title     = "mail is unfinished for more than ${var.oldest_minutes} minutes"
    }
    # A percentile of zeros is above 0.
    dead = {
      field     = "dead"
      threshold = 0.5
      title     = "there are dead letters"
    }
  }
}

resource "google_logging_metric" "gauges" {
  for_each = local.gauges

  project         = var.project
  name            = "${var.name}-${each.key}"
  description     = "The sweep's figure for ${each.value.field}."
  filter          = local.swept
  value_extractor = "EXTRACT(jsonPayload.${each.value.field})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "1"
  }

  bucket_options {
    explicit_buckets {
      bounds = [0, each.value.threshold, 10 * each.value.threshold, 100 * each.value.threshold]
    }
  }
}

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

resource "google_monitoring_alert_policy" "gauges" {
  for_each = local.gauges

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  notification_channels = var.notification_channels

  conditions {
    display_name = each.value.title

    condition_threshold {
      filter          = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.gauges[each.key].name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "0s"

      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_PERCENTILE_99"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }
}

resource "google_monitoring_alert_policy" "no_sweep" {
  project               = var.project
  display_name          = "${var.name}: no sweep for 15 minutes"
  combiner              = "OR"
  notification_channels = var.notification_channels

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
}

resource "google_monitoring_alert_policy" "crashed" {
  project               = var.project
  display_name          = "${var.name}: notifications whose run crashed"
  combiner              = "OR"
  notification_channels = var.notification_channels

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

# Metrics of single entries of the function's log.

locals {
  said = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${google_cloudfunctions2_function.delivery.name}\""

  entries = {
    errors = {
      filter = "${local.said} AND jsonPayload.message=~\"unexpected fault\""
      title  = "the function fails"
    }
    in-doubt = {
      filter = "${local.said} AND jsonPayload.in_doubt=true"
      title  = "calls got no answer: mails or messages may exist twice"
    }
  }
}

resource "google_logging_metric" "entries" {
  for_each = local.entries

  project     = var.project
  name        = "${var.name}-${each.key}"
  description = "Entries of the function's log: ${each.value.title}."
  filter      = each.value.filter

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

resource "google_monitoring_alert_policy" "entries" {
  for_each = local.entries

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  notification_channels = var.notification_channels

  conditions {
    display_name = each.value.title

    condition_threshold {
      filter          = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.entries[each.key].name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
}
