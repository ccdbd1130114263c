# The listener's names: mx.ZONE is the load balancer, and a public one gets the zone's mail.

data "aws_route53_zone" "given" {
  count   = var.zone_id == null ? 0 : 1
  zone_id = var.zone_id
}

resource "aws_route53_record" "host" {
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
  name    = "mx.${data.aws_route53_zone.given[0].name}"
  type    = "A"

  alias {
    name                   = module.listener.endpoint
    zone_id                = module.listener.endpoint_zone_id
    evaluate_target_health = false
  }
}

resource "aws_route53_record" "mx" {
  count = var.zone_id != null && local.deployment.public ? 1 : 0

  zone_id = var.zone_id
  name    = data.aws_route53_zone.given[0].name
  type    = "MX"
  ttl     = 1800
  records = ["10 ${aws_route53_record.host[0].name}"]
}
