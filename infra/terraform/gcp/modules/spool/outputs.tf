output "bucket" {
  description = "The bucket's name, once its notifications exist."
  value       = google_storage_bucket.spool.name
  depends_on  = [google_storage_notification.spool]
}

output "url" {
  description = "The spool as the configuration has it."
  value       = "gs://${google_storage_bucket.spool.name}/${var.prefix}"
}

output "topic" {
  description = "The topic that the notifications go to, in full."
  value       = google_pubsub_topic.doorbells.id
}
