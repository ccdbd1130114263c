# The bucket is the record of unfinished mail; its notifications only start the function.

resource "google_storage_bucket" "spool" {
  project                     = var.project
  name                        = "${var.project}-${var.name}-spool"
  location                    = var.region
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # Without it a bucket that holds objects is not destroyed.
  force_destroy = var.ephemeral

  # Every mail is deleted once it is delivered: by default each would be kept, and billed, for a week.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  versioning {
    enabled = false
  }

  # Receipts outlive everything that could repeat an effect. No rule touches spool/ or dead/.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 30
      matches_prefix = ["${var.prefix}/receipts/"]
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

resource "google_pubsub_topic" "doorbells" {
  project = var.project
  name    = "${var.name}-doorbells"
  labels  = var.labels
}

data "google_storage_project_service_account" "agent" {
  project = var.project
}

resource "google_pubsub_topic_iam_member" "agent" {
  project = var.project
  topic   = google_pubsub_topic.doorbells.name
  role    = "roles/pubsub.publisher"
  member  = data.google_storage_project_service_account.agent.member
}

resource "google_storage_notification" "spool" {
  bucket             = google_storage_bucket.spool.name
  topic              = google_pubsub_topic.doorbells.id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = "${var.prefix}/spool/"

  # Cloud Storage checks the permission when the notification is made.
  depends_on = [google_pubsub_topic_iam_member.agent]
}
