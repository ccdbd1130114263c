output "spool_bucket" {
  description = "The bucket that holds unfinished mail."
  value       = module.spool.bucket
}

output "queue" {
  description = "The URL of the queue that uploads notify."
  value       = module.delivery.queue_url
}

output "dead_letter_queue" {
  description = "The URL of the queue for notifications whose run crashed over and over."
  value       = module.delivery.dead_letter_queue_url
}

output "function" {
  description = "The name of the function that delivers."
  value       = module.delivery.function
}

output "listener_endpoint" {
  description = "The load balancer's name, for MX records and applications."
  value       = module.listener.endpoint
}
