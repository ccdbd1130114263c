output "address" {
  description = "The load balancer's address, the Cloud Run service's URL for the sidecar, null for the worker pool."
  value       = one(concat(google_compute_address.listener[*].address, google_cloud_run_v2_service.sidecar[*].uri))
}

output "service_account" {
  description = "The listener's identity, an e-mail address."
  value       = google_service_account.listener.email
}

output "log" {
  description = "The filter of the listener's log entries."
  value       = local.said
}
