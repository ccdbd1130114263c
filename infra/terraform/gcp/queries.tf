# Queries that find one mail in the logs of both halves. Cloud Logging can save them, but the provider has that
# resource (google_logging_saved_query) only in some of the versions that versions.tf permits.

locals {
  sources = concat([module.delivery.log], module.listener[*].log)
  # AND binds more loosely than OR there, so every part has its parentheses.
  logs = "(${join(" OR ", [for each in local.sources : "(${each})"])})"

  # The listener logs the last two with `logAddresses: true`, as parts of one text.
  queries = {
    id         = "${local.logs} AND jsonPayload.id=\"ID\""
    recipient  = "${local.logs} AND jsonPayload.message=\"mail accepted\" AND jsonPayload.to:\"RECIPIENT\""
    message_id = "${local.logs} AND jsonPayload.message=\"mail accepted\" AND jsonPayload.message_id:\"MESSAGE-ID\""
  }
}
