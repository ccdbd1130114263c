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

  logged = {
    mails      = "jsonPayload.message=(\"mail accepted\" OR \"mail not stored\")"
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

resource "google_monitoring_alert_policy" "deferred" {
  project               = var.project
  display_name          = "${var.name}: mails are answered 451: the spool cannot be written"
  combiner              = "OR"
  notification_channels = var.notification_channels

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
}

# Google has no metric for the healthy machines of a group. Each healthy one logs it once a
# minute, five times a period: the threshold lies halfway between enough of them and one too few.
resource "google_monitoring_alert_policy" "healthy" {
  count = local.counted ? 1 : 0

  project               = var.project
  display_name          = "${var.name}: fewer than ${var.size.min} listeners are healthy"
  combiner              = "OR"
  notification_channels = var.notification_channels

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
}

resource "google_logging_metric" "certificate" {
  count = local.certificate ? 1 : 0

  project         = var.project
  name            = "${var.name}-certificate-days"
  description     = "Days until the listener's certificate ends, logged once an hour."
  filter          = "${local.said} AND jsonPayload.message=\"certificate\""
  value_extractor = "EXTRACT(jsonPayload.days)"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "d"
  }

  # A distribution keeps ranges, not values: the threshold has to be the border of two.
  bucket_options {
    explicit_buckets {
      bounds = [0, local.certificate_days, 30, 60, 90, 180, 400, 4000]
    }
  }
}

resource "google_monitoring_alert_policy" "certificate" {
  count = local.certificate ? 1 : 0

  project               = var.project
  display_name          = "${var.name}: the certificate ends within ${local.certificate_days} days"
  combiner              = "OR"
  notification_channels = var.notification_channels

  conditions {
    display_name = "fewer than ${local.certificate_days} days left"

    condition_threshold {
      filter          = "resource.type=\"${local.resource}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.certificate[0].name}\""
      comparison      = "COMPARISON_LT"
      threshold_value = local.certificate_days
      duration        = "0s"

      aggregations {
        alignment_period     = "21600s"
        per_series_aligner   = "ALIGN_PERCENTILE_05"
        cross_series_reducer = "REDUCE_MIN"
      }
    }
  }
}
