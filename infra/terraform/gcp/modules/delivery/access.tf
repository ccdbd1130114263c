# One grant for each thing that the configuration names, and no others.

locals {
  buckets = { for each in var.buckets : "${each.bucket}/${each.prefix}" => each }
  topics  = { for each in var.topics : "${coalesce(each.project, var.project)}/${each.topic}" => each }
  secrets = { for each in var.secrets : "${each.project}/${each.secret}" => each }
}

resource "google_service_account" "function" {
  project      = var.project
  account_id   = "${var.name}-function"
  display_name = "Delivers mail out of ${var.bucket}"
}

# Cloud Build would otherwise run as the Compute Engine default account, which has no roles in organizations that
# grant it none (iam.automaticIamGrantsForDefaultServiceAccounts, the default of new ones).
resource "google_service_account" "build" {
  project      = var.project
  account_id   = "${var.name}-build"
  display_name = "Builds the function of ${var.name}"
}

resource "google_project_iam_member" "build" {
  project = var.project
  role    = "roles/cloudbuild.builds.builder"
  member  = google_service_account.build.member
}

# IAM changes take effect after a while; a build without the role ends the apply.
resource "time_sleep" "build" {
  create_duration = "90s"
  triggers        = { account = google_service_account.build.email }
  depends_on      = [google_project_iam_member.build]
}

# The callers of the function: the subscription and the scheduler.
resource "google_service_account" "caller" {
  project      = var.project
  account_id   = "${var.name}-caller"
  display_name = "Calls the function of ${var.name}"
}

# A second-generation function is a Cloud Run service, and callers invoke the service.
resource "google_cloud_run_v2_service_iam_member" "caller" {
  project  = var.project
  location = var.region
  name     = google_cloudfunctions2_function.delivery.name
  role     = "roles/run.invoker"
  member   = google_service_account.caller.member
}

resource "google_service_account_iam_member" "pubsub" {
  service_account_id = google_service_account.caller.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
  depends_on         = [google_project_service_identity.pubsub]
}

resource "google_storage_bucket_iam_member" "spool" {
  bucket = var.bucket
  role   = "roles/storage.objectUser"
  member = google_service_account.function.member
}

resource "google_pubsub_topic_iam_member" "ring" {
  project = var.project
  topic   = var.topic
  role    = "roles/pubsub.publisher"
  member  = google_service_account.function.member
}

resource "google_storage_bucket_iam_member" "targets" {
  for_each = local.buckets

  bucket = each.value.bucket
  role   = "roles/storage.objectCreator"
  member = google_service_account.function.member

  dynamic "condition" {
    for_each = each.value.prefix == "" ? [] : [each.value.prefix]
    content {
      title      = "only below the prefix"
      expression = "resource.name.startsWith(\"projects/_/buckets/${each.value.bucket}/objects/${condition.value}\")"
    }
  }
}

# It shows whose object has a used name: another mail's, another flow's, or this one's.
resource "google_storage_bucket_iam_member" "taken" {
  for_each = local.buckets

  bucket = each.value.bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.function.member

  dynamic "condition" {
    for_each = each.value.prefix == "" ? [] : [each.value.prefix]
    content {
      title      = "only below the prefix"
      expression = "resource.name.startsWith(\"projects/_/buckets/${each.value.bucket}/objects/${condition.value}\")"
    }
  }
}

resource "google_pubsub_topic_iam_member" "targets" {
  for_each = local.topics

  project = coalesce(each.value.project, var.project)
  topic   = each.value.topic
  role    = "roles/pubsub.publisher"
  member  = google_service_account.function.member
}

resource "google_secret_manager_secret_iam_member" "function" {
  for_each = local.secrets

  project   = each.value.project
  secret_id = each.value.secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function.member
}
