# Passthrough: packets arrive with the client's own address, so no PROXY header is needed. The rule
# forwards all ports; the firewall says which are open.

resource "google_compute_address" "listener" {
  count = local.grouped ? 1 : 0

  project      = var.project
  region       = var.region
  name         = "${var.name}-listener"
  labels       = var.labels
  address_type = upper(var.kind)
  subnetwork   = var.kind == "internal" ? var.subnetwork : null
}

resource "google_compute_region_backend_service" "listener" {
  count = local.grouped ? 1 : 0

  project                         = var.project
  region                          = var.region
  name                            = "${var.name}-listener"
  protocol                        = "TCP"
  load_balancing_scheme           = upper(var.kind)
  health_checks                   = [google_compute_region_health_check.listener[0].id]
  connection_draining_timeout_sec = 90

  backend {
    group          = google_compute_region_instance_group_manager.listener[0].instance_group
    balancing_mode = "CONNECTION"
  }
}

resource "google_compute_forwarding_rule" "listener" {
  count = local.grouped ? 1 : 0

  project               = var.project
  region                = var.region
  name                  = "${var.name}-listener"
  labels                = var.labels
  load_balancing_scheme = upper(var.kind)
  ip_protocol           = "TCP"
  ip_address            = google_compute_address.listener[0].address
  all_ports             = true
  backend_service       = google_compute_region_backend_service.listener[0].id
  network               = var.kind == "internal" ? var.network : null
  subnetwork            = var.kind == "internal" ? var.subnetwork : null
}

resource "google_compute_firewall" "clients" {
  count = local.grouped ? 1 : 0

  project                 = var.project
  name                    = "${var.name}-listener-clients"
  network                 = var.network
  source_ranges           = var.clients
  target_service_accounts = [google_service_account.listener.email]

  allow {
    protocol = "tcp"
    ports    = keys(var.listeners)
  }
}

resource "google_compute_firewall" "probes" {
  count = local.grouped ? 1 : 0

  project                 = var.project
  name                    = "${var.name}-listener-probes"
  network                 = var.network
  source_ranges           = local.probes
  target_service_accounts = [google_service_account.listener.email]

  allow {
    protocol = "tcp"
    ports    = ["9090"]
  }
}
