# Experimental. A worker pool has no stable address and no probes, and is stopped with 10 s to drain:
# clients in the VPC find its instances themselves.

resource "google_cloud_run_v2_worker_pool" "listener" {
  count = var.kind == "worker-pool" ? 1 : 0

  project             = var.project
  location            = var.region
  name                = "${var.name}-listener"
  labels              = var.labels
  launch_stage        = "BETA"
  deletion_protection = false

  scaling {
    manual_instance_count = var.size.min
  }

  template {
    service_account = google_service_account.listener.email

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"

      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
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
        limits = { cpu = "1", memory = var.memory }
      }
    }
  }

  depends_on = [
    google_storage_bucket_iam_member.spool,
    google_secret_manager_secret_iam_member.listener,
  ]
}
