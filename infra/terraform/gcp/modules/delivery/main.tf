# The function is a plain HTTP one: this module's subscription pushes to it. With an event trigger
# Eventarc would own the subscription, which then keeps messages for a day and has no dead-letter topic.

data "google_project" "this" {
  project_id = var.project
}

locals {
  function     = "${var.name}-delivery"
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

# In a project that never used Pub/Sub its agent does not exist, and every grant to it is refused.
resource "google_project_service_identity" "pubsub" {
  provider = google-beta
  project  = var.project
  service  = "pubsub.googleapis.com"
}

resource "google_storage_bucket" "source" {
  project                     = var.project
  name                        = "${var.project}-${var.name}-source"
  location                    = var.region
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.ephemeral

  soft_delete_policy {
    retention_duration_seconds = 0
  }
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "function-${filesha256(var.source_zip)}.zip"
  source = var.source_zip
}

resource "google_cloudfunctions2_function" "delivery" {
  project     = var.project
  name        = local.function
  location    = var.region
  description = "Runs the outputs of the mails in the bucket ${var.bucket}."
  labels      = var.labels

  build_config {
    runtime         = var.runtime
    entry_point     = "handle"
    service_account = google_service_account.build.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    service_account_email            = google_service_account.function.email
    available_cpu                    = "1"
    available_memory                 = "${var.memory_mib}Mi"
    timeout_seconds                  = var.timeout
    max_instance_request_concurrency = var.threads
    min_instance_count               = 0
    max_instance_count               = var.max_instances
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    all_traffic_on_latest_revision   = true
    vpc_connector                    = var.connector
    vpc_connector_egress_settings    = var.connector == null ? null : var.all_traffic ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"

    environment_variables = {
      SMTP_RELAY_SPOOL         = "gs://${var.bucket}/${var.prefix}"
      SMTP_RELAY_TOPIC         = var.topic
      SMTP_RELAY_TIMEOUT       = tostring(var.timeout)
      SMTP_RELAY_MEMORY        = tostring(var.memory_mib)
      GOOGLE_CLOUD_PROJECT     = var.project
      THREADS                  = tostring(var.threads)
      PYDANTIC_DISABLE_PLUGINS = "__all__"
    }
  }

  lifecycle {
    precondition {
      condition     = !var.all_traffic || var.connector != null
      error_message = "function_all_traffic needs function_connector, the way that all traffic takes."
    }
  }

  # A permission that is missing when the first mail comes would cost it an attempt.
  depends_on = [
    google_storage_bucket_iam_member.spool,
    google_storage_bucket_iam_member.targets,
    google_storage_bucket_iam_member.taken,
    google_pubsub_topic_iam_member.targets,
    google_secret_manager_secret_iam_member.function,
    time_sleep.build,
  ]
}
