# The network of the listener's machines, which have no public addresses: Artifact Registry, Cloud Storage, Secret
# Manager and Cloud Logging are reached by Private Google Access, the rest of the internet by Cloud NAT.

locals {
  own = var.network == null
  # A network in auto mode has subnetworks of its own name.
  given = coalesce(var.subnetwork, basename(coalesce(var.network, var.name)))
  link  = can(regex("/", local.given))
}

resource "google_compute_network" "this" {
  count = local.own ? 1 : 0

  project                 = var.project
  name                    = var.name
  auto_create_subnetworks = false

  lifecycle {
    precondition {
      condition     = !var.private
      error_message = "Say network: applications in it are the clients, and a network of the listener's own would have none."
    }
  }
}

resource "google_compute_subnetwork" "this" {
  count = local.own ? 1 : 0

  project                  = var.project
  region                   = var.region
  name                     = var.name
  network                  = google_compute_network.this[0].id
  ip_cidr_range            = var.cidr
  private_ip_google_access = true
}

# Without Private Google Access no machine could pull the image, and autohealing would replace machines for ever.
data "google_compute_subnetwork" "given" {
  count = local.own ? 0 : 1

  project   = local.link ? null : var.project
  region    = local.link ? null : var.region
  name      = local.link ? null : local.given
  self_link = local.link ? local.given : null

  lifecycle {
    postcondition {
      condition     = self.private_ip_google_access
      error_message = "The subnetwork ${self.name} has no Private Google Access, so its machines cannot pull the image: run `gcloud compute networks subnets update ${self.name} --project=${self.project} --region=${self.region} --enable-private-ip-google-access`."
    }
  }
}

resource "google_compute_router" "this" {
  count = var.nat ? 1 : 0

  project = var.project
  region  = var.region
  name    = "${var.name}-nat"
  network = local.own ? google_compute_network.this[0].id : data.google_compute_subnetwork.given[0].network
}

resource "google_compute_router_nat" "this" {
  count = var.nat ? 1 : 0

  project                            = var.project
  region                             = var.region
  router                             = google_compute_router.this[0].name
  name                               = "${var.name}-nat"
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  subnetwork {
    name                    = local.own ? google_compute_subnetwork.this[0].self_link : data.google_compute_subnetwork.given[0].self_link
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }
}
