output "spool" {
  description = "SMTP_RELAY_SPOOL, as `smtp-relay sweep` and `smtp-relay deadletter` take it."
  value       = module.spool.url
}

output "topic" {
  description = "SMTP_RELAY_TOPIC of the same commands."
  value       = module.spool.topic
}

output "function" {
  description = "The function's address; only the subscription and the scheduler may call it."
  value       = module.delivery.uri
}

output "dead_letter_subscription" {
  description = "The subscription of notifications whose run crashed ten times."
  value       = module.delivery.dead_letter_subscription
}

output "listener" {
  description = "The address for SMTP: an address, or a Cloud Run service's URL for the sidecar; null for the others."
  value       = one(module.listener[*].address)
}

output "service_accounts" {
  description = "The identities, for grants in other projects."
  value = {
    function = module.delivery.service_account
    listener = one(module.listener[*].service_account)
  }
}

output "network" {
  description = "The network of the listener's machines; null without machines."
  value       = one(module.network[*].network)
}

output "queries" {
  description = "What finds one mail by its id, a recipient or its Message-ID: a link to Logs Explorer, and the filter for `gcloud logging read`. Put yours in the place of ID, RECIPIENT or MESSAGE-ID."
  value = {
    for name, filter in local.queries : name => {
      filter = filter
      # In a path a plus sign is no blank.
      link = "https://console.cloud.google.com/logs/query;query=${replace(urlencode(filter), "+", "%20")};duration=P30D?project=${var.project}"
    }
  }
}
