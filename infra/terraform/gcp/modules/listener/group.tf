# Machines with Container-Optimized OS that run the image: for applications of a VPC (internal) and for
# mail from the internet (external).

locals {
  # Alerts find the deployment's log entries by it: the logging agent adds the container's name.
  container = "${var.name}-listener"

  # A passthrough load balancer does not translate ports. Docker does, so the container needs no
  # privileges.
  published = [for outside, listener in var.listeners : "${outside}:${listener.smtp.endpoint}"]

  group_environment = merge(local.environment, {
    SMTP_RELAY_LISTENERS = jsonencode([
      for listener in values(var.listeners) : merge({ bind = "0.0.0.0" }, listener)
    ])
  })

  # Sources of the health checks of passthrough load balancers and of autohealing.
  probes = var.kind == "external" ? ["35.191.0.0/16", "209.85.152.0/22", "209.85.204.0/22", "130.211.0.0/22"] : ["35.191.0.0/16", "130.211.0.0/22"]
}

resource "google_compute_region_instance_template" "listener" {
  count = local.grouped ? 1 : 0

  project      = var.project
  region       = var.region
  name_prefix  = "${var.name}-listener-"
  machine_type = var.machine_type
  labels       = var.labels

  disk {
    source_image = var.machine_image
    boot         = true
    auto_delete  = true
  }

  network_interface {
    network    = var.network
    subnetwork = var.subnetwork
  }

  service_account {
    email  = google_service_account.listener.email
    scopes = ["cloud-platform"]
  }

  shielded_instance_config {
    enable_secure_boot = true
  }

  metadata = {
    google-logging-enabled = "true"
    user-data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
      container   = local.container
      image       = var.image
      registry    = split("/", var.image)[0]
      environment = base64encode(join("\n", concat([for name, value in local.group_environment : "${name}=${value}"], [""])))
      published   = join(" ", [for each in local.published : "-p ${each}"])
    })
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [
    google_storage_bucket_iam_member.spool,
    google_secret_manager_secret_iam_member.listener,
    google_project_iam_member.image,
  ]
}

resource "google_compute_region_health_check" "listener" {
  count = local.grouped ? 1 : 0

  project             = var.project
  region              = var.region
  name                = "${var.name}-listener"
  check_interval_sec  = 10
  timeout_sec         = 5
  healthy_threshold   = 2
  unhealthy_threshold = 3

  # Not /readyz: an outage of the store would restart every machine.
  http_health_check {
    port         = 9090
    request_path = "/healthz"
  }
}

resource "google_compute_region_instance_group_manager" "listener" {
  count = local.grouped ? 1 : 0

  project            = var.project
  region             = var.region
  name               = "${var.name}-listener"
  base_instance_name = "${var.name}-listener"

  version {
    instance_template = google_compute_region_instance_template.listener[0].self_link
  }

  auto_healing_policies {
    health_check      = google_compute_region_health_check.listener[0].id
    initial_delay_sec = 120
  }

  # Regional groups replace by zones, of which there are three.
  update_policy {
    type                  = "PROACTIVE"
    minimal_action        = "REPLACE"
    max_surge_fixed       = 3
    max_unavailable_fixed = 0
  }
}

resource "google_compute_region_autoscaler" "listener" {
  count = local.grouped ? 1 : 0

  project = var.project
  region  = var.region
  name    = "${var.name}-listener"
  target  = google_compute_region_instance_group_manager.listener[0].id

  autoscaling_policy {
    min_replicas    = var.size.min
    max_replicas    = var.size.max
    cooldown_period = 90

    cpu_utilization {
      target = 0.5
    }
  }
}
