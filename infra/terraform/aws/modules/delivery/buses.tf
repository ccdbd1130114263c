# A bus drops an event that no rule matches, and says nothing. So an archive keeps the events of each bus of
# this account and region; the owner of another bus keeps its events.

resource "aws_cloudwatch_event_archive" "events" {
  for_each = {
    for arn in var.buses : regex("event-bus/(.+)$", arn)[0] => arn
    if startswith(arn, "arn:${var.place.partition}:events:${var.place.region}:${var.place.account}:")
  }

  # A name has at most 48 characters.
  name             = "${substr(var.name, 0, 39)}-${substr(sha256(each.value), 0, 8)}"
  description      = "Events of mails"
  event_source_arn = each.value
  event_pattern    = jsonencode({ source = ["com.loopingz.smtp-relay"] })
  retention_days   = 14
}
