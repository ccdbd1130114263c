# All kinds of listeners have an identity that may create mails in the spool and read its secrets.

locals {
  grouped = contains(["external", "internal"], var.kind)
  secrets = { for each in var.secrets : "${each.project}/${each.secret}" => each }

  # One port for those that share the network of one instance.
  alone = [{ port = 10025, bind = "0.0.0.0" }]

  environment = {
    SMTP_RELAY_CONFIG_JSON = jsonencode(jsondecode(var.config))
    SMTP_RELAY_SPOOL       = "gs://${var.bucket}/${var.prefix}"
    SMTP_RELAY_HEALTH_PORT = "9090"
    GOOGLE_CLOUD_PROJECT   = var.project
  }
}

resource "google_service_account" "listener" {
  project      = var.project
  account_id   = "${var.name}-listener"
  display_name = "Takes mail into ${var.bucket}"

  lifecycle {
    precondition {
      condition     = var.kind != "external" || var.public
      error_message = "Strangers reach an external listener: run infra.bundle.gcp with `--public true`, which checks the configuration for that."
    }
  }
}

resource "google_storage_bucket_iam_member" "spool" {
  bucket = var.bucket
  role   = "roles/storage.objectCreator"
  member = google_service_account.listener.member

  condition {
    title      = "only mails"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.bucket}/objects/${var.prefix}/spool/\")"
  }
}

resource "google_secret_manager_secret_iam_member" "listener" {
  for_each = local.secrets

  project   = each.value.project
  secret_id = each.value.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.listener.member
}

resource "google_project_iam_member" "logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.listener.member
}

resource "google_project_iam_member" "image" {
  project = var.project
  role    = "roles/artifactregistry.reader"
  member  = google_service_account.listener.member
}
