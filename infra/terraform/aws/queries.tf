# Saved queries of CloudWatch Logs Insights that find one mail.

resource "aws_cloudwatch_query_definition" "accepted" {
  count = var.queries ? 1 : 0

  name            = "${var.name}/mails by recipient or Message-ID"
  log_group_names = [module.listener.log_group, module.delivery.log_group]

  query_string = <<-EOT
    fields @timestamp, id, from, to, message_id, subject, ip, flows
    | filter message = "mail accepted"
    | filter to like "RECIPIENT" or message_id like "MESSAGE-ID"
    | sort @timestamp desc
    | limit 100
  EOT
}

resource "aws_cloudwatch_query_definition" "one" {
  count = var.queries ? 1 : 0

  name            = "${var.name}/one mail by id"
  log_group_names = [module.listener.log_group, module.delivery.log_group]

  query_string = <<-EOT
    fields @timestamp, message, flow, output, provider_id, code, reason, @logStream
    | filter id = "ID"
    | sort @timestamp asc
    | limit 1000
  EOT
}
