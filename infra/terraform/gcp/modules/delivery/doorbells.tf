# From the topic to the function, and the dead letters: notifications whose run crashed.

resource "google_pubsub_subscription" "doorbells" {
  project                    = var.project
  name                       = "${var.name}-doorbells"
  topic                      = var.topic
  labels                     = var.labels
  ack_deadline_seconds       = 600
  message_retention_duration = "604800s"

  # A subscription that is quiet for 31 days would be deleted.
  expiration_policy {
    ttl = ""
  }

  push_config {
    push_endpoint = google_cloudfunctions2_function.delivery.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.caller.email
      audience              = google_cloudfunctions2_function.delivery.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead.id
    max_delivery_attempts = 10
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.caller,
    google_pubsub_topic_iam_member.dead,
    google_service_account_iam_member.pubsub,
  ]
}

resource "google_pubsub_topic" "dead" {
  project = var.project
  name    = "${var.name}-dead"
  labels  = var.labels
}

# A topic without a subscription drops its messages.
resource "google_pubsub_subscription" "dead" {
  project                    = var.project
  name                       = "${var.name}-dead"
  topic                      = google_pubsub_topic.dead.id
  labels                     = var.labels
  message_retention_duration = "1209600s"

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub itself moves the messages: it publishes to one and reads from the other.
resource "google_pubsub_topic_iam_member" "dead" {
  project = var.project
  topic   = google_pubsub_topic.dead.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent

  depends_on = [google_project_service_identity.pubsub]
}

resource "google_pubsub_subscription_iam_member" "dead" {
  project      = var.project
  subscription = google_pubsub_subscription.doorbells.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent

  depends_on = [google_project_service_identity.pubsub]
}

resource "google_cloud_scheduler_job" "sweep" {
  project          = var.project
  region           = var.region
  name             = "${var.name}-sweep"
  description      = "Sends notifications for mail that is due, and counts the spool's mails."
  schedule         = "*/5 * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "${var.timeout + 20}s"

  retry_config {
    retry_count = 1
  }

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.delivery.service_config[0].uri
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ sweep = true }))

    oidc_token {
      service_account_email = google_service_account.caller.email
      audience              = google_cloudfunctions2_function.delivery.service_config[0].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.caller]
}
