output "network" {
  description = "The network."
  value       = local.own ? google_compute_network.this[0].self_link : data.google_compute_subnetwork.given[0].network
}

output "subnetwork" {
  description = "The subnetwork, which has Private Google Access."
  value       = local.own ? google_compute_subnetwork.this[0].self_link : data.google_compute_subnetwork.given[0].self_link
  depends_on  = [google_compute_router_nat.this]
}
