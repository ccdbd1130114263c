output "uri" {
  description = "The function's address."
  value       = google_cloudfunctions2_function.delivery.service_config[0].uri
}

output "service_account" {
  description = "The function's identity, an e-mail address."
  value       = google_service_account.function.email
}

output "dead_letter_subscription" {
  description = "The subscription of notifications whose run crashed."
  value       = google_pubsub_subscription.dead.id
}

output "subscription" {
  description = "The subscription that pushes to the function: known once mail is delivered."
  value       = google_pubsub_subscription.doorbells.id
}

output "log" {
  description = "The filter of the function's log entries."
  value       = local.said
}
