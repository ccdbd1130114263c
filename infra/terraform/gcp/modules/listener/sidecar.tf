# For an application on Cloud Run: it speaks SMTP to localhost:10025. From outside a Cloud Run service
# accepts only HTTP, so this listener serves only its own application.

resource "google_cloud_run_v2_service" "sidecar" {
  count = var.kind == "sidecar" ? 1 : 0

  project             = var.project
  location            = var.region
  name                = "${var.name}-app"
  labels              = var.labels
  deletion_protection = false

  template {
    service_account = google_service_account.listener.email

    containers {
      name       = "app"
      image      = var.application.image
      depends_on = ["smtp-relay"]

      ports {
        container_port = var.application.port
      }

      env {
        name  = "SMTP_HOST"
        value = "localhost"
      }

      env {
        name  = "SMTP_PORT"
        value = "10025"
      }

      resources {
        # A connection that stays open between requests needs CPU between requests.
        cpu_idle = !var.application.keeps_connections
      }
    }

    containers {
      name  = "smtp-relay"
      image = var.image

      dynamic "env" {
        for_each = merge(local.environment, { SMTP_RELAY_LISTENERS = jsonencode(local.alone) })
        content {
          name  = env.key
          value = env.value
        }
      }

      resources {
        cpu_idle = !var.application.keeps_connections
        # Cloud Run's disk is memory: large mails are captured in it.
        limits = { cpu = "1", memory = var.memory }
      }

      startup_probe {
        period_seconds    = 1
        failure_threshold = 60

        tcp_socket {
          port = 10025
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = var.application != null
      error_message = "A sidecar runs beside an application: give application."
    }
  }

  depends_on = [
    google_storage_bucket_iam_member.spool,
    google_secret_manager_secret_iam_member.listener,
  ]
}
