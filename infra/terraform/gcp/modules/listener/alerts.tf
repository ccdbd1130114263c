# Alerts for the operator, from the listener's log; docs/operations.md says what to do. It logs
# JSON, and its health each minute, because the bundle's configuration says so.

locals {
  # The place of each kind's entries. Machines of Container-Optimized OS name the container, Cloud Run the
  # service or pool; beside a sidecar the application logs in its own form.
  resource = local.grouped ? "gce_instance" : var.kind == "sidecar" ? "cloud_run_revision" : "cloud_run_worker_pool"
  origin = {
    gce_instance          = "log_id(\"cos_containers\") AND jsonPayload.\"cos.googleapis.com/container_name\"=\"${local.container}\""
    cloud_run_revision    = "resource.labels.service_name=\"${var.name}-app\""
    cloud_run_worker_pool = "resource.labels.worker_pool_name=\"${var.name}-listener\""
  }
  said = "resource.type=\"${local.resource}\" AND ${local.origin[local.resource]} AND jsonPayload.logger=~\"^smtp_relay\""

  # No platform counts a sidecar's instances: they come and go with its application's requests.
  counted = var.kind != "sidecar"

  named       = try(jsondecode(var.config).options, {})
  certificate = try(length(local.named.cert) > 0, false) || try(length(local.named.pfx) > 0, false)

  deferred_percent = 5
  certificate_days = 14

  matched = {
    certificate     = "jsonPayload.message=\"certificate\" AND jsonPayload.days<${local.certificate_days}"
    untrusted-proxy = "jsonPayload.message=~\"^(PROXY header from an address that useProxy does not list|no PROXY header from a proxy)\""
  }

  logged = {
    mails      = "jsonPayload.message=(\"mail accepted\" OR \"mail not stored\")"
    accepted   = "jsonPayload.message=\"mail accepted\""
    not-stored = "jsonPayload.message=\"mail not stored\""
    alive      = "jsonPayload.message=\"health\" AND jsonPayload.alive=true"
  }
}

resource "google_logging_metric" "logged" {
  for_each = { for name, terms in local.logged : name => terms if local.counted || name != "alive" }

  project     = var.project
  name        = "${var.name}-${each.key}"
  description = "Entries of the listener's log: ${each.value}."
  filter      = "${local.said} AND ${each.value}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"
  }
}

# Cloud Monitoring knows a new metric after up to ten minutes, and refuses alerts on it until then.
resource "time_sleep" "metrics" {
  create_duration = "600s"
  triggers        = { for name, metric in google_logging_metric.logged : name => metric.id }
}

resource "google_monitoring_alert_policy" "deferred" {
  project               = var.project
  display_name          = "${var.name}: mails are answered 451: the spool cannot be written"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "over ${local.deferred_percent} % of mails answered 451"

    condition_threshold {
      filter             = "resource.type=\"${local.resource}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.logged["not-stored"].name}\""
      denominator_filter = "resource.type=\"${local.resource}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.logged["mails"].name}\""
      comparison         = "COMPARISON_GT"
      threshold_value    = local.deferred_percent / 100
      duration           = "0s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }

      denominator_aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  depends_on = [time_sleep.metrics]
}

# Google has no metric for the healthy machines of a group. Each healthy one logs it once a
# minute, five times a period: the threshold lies halfway between enough of them and one too few.
resource "google_monitoring_alert_policy" "healthy" {
  count = local.counted ? 1 : 0

  project               = var.project
  display_name          = "${var.name}: fewer than ${var.size.min} listeners are healthy"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "fewer than ${var.size.min} healthy"

    condition_threshold {
      filter                  = "resource.type=\"${local.resource}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.logged["alive"].name}\""
      comparison              = "COMPARISON_LT"
      threshold_value         = 5 * (var.size.min - 0.5)
      duration                = "300s"
      evaluation_missing_data = "EVALUATION_MISSING_DATA_ACTIVE"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  depends_on = [time_sleep.metrics]
}

# A day and a bit is the longest period of an alert (Aggregation.alignment_period: 90,000 s).
resource "google_monitoring_alert_policy" "quiet" {
  count = var.quiet_hours > 0 ? 1 : 0

  project               = var.project
  display_name          = "${var.name}: no mail was accepted for ${var.quiet_hours} hours"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "no mail for ${var.quiet_hours} hours"

    condition_threshold {
      filter                  = "resource.type=\"${local.resource}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.logged["accepted"].name}\""
      comparison              = "COMPARISON_LT"
      threshold_value         = 1
      duration                = "300s"
      evaluation_missing_data = "EVALUATION_MISSING_DATA_ACTIVE"

      aggregations {
        alignment_period     = "${3600 * var.quiet_hours}s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  depends_on = [time_sleep.metrics]
}

# These match single entries of the log, which needs no metric.

resource "google_monitoring_alert_policy" "certificate" {
  count = local.certificate ? 1 : 0

  project               = var.project
  display_name          = "${var.name}: the certificate ends within ${local.certificate_days} days"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "fewer than ${local.certificate_days} days left"

    condition_matched_log {
      filter = "${local.said} AND ${local.matched.certificate}"
    }
  }

  # It is logged once an hour.
  alert_strategy {
    auto_close = "7200s"

    notification_rate_limit {
      period = "86400s"
    }
  }
}

resource "google_monitoring_alert_policy" "untrusted_proxy" {
  project               = var.project
  display_name          = "${var.name}: clients are refused: their PROXY header comes from no balancer"
  combiner              = "OR"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "PROXY headers do not fit"

    condition_matched_log {
      filter = "${local.said} AND ${local.matched.untrusted-proxy}"
    }
  }

  alert_strategy {
    auto_close = "1800s"

    notification_rate_limit {
      period = "3600s"
    }
  }
}
