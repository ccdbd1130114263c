# The network load balancer. It has a security group from its creation: one without can never get any.

resource "aws_security_group" "balancer" {
  name_prefix = "${var.name}-balancer-"
  description = "Clients of the mail relay"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "tasks" {
  name_prefix = "${var.name}-tasks-"
  description = "Tasks of the mail relay"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  clients = var.clients != null ? var.clients : var.public ? ["0.0.0.0/0"] : var.vpc_cidrs
  # A port's first rule is named after the port, so that more networks do not replace it.
  admitted = merge([
    for index, cidr in local.clients : {
      for name, port in var.ports : index == 0 ? name : "${name} ${cidr}" => { port = port.outside, cidr = cidr }
    }
  ]...)
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = local.admitted

  security_group_id = aws_security_group.balancer.id
  description       = "SMTP"
  cidr_ipv4         = each.value.cidr
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "to_tasks" {
  for_each = local.inside

  security_group_id            = aws_security_group.balancer.id
  description                  = "to the tasks"
  referenced_security_group_id = aws_security_group.tasks.id
  ip_protocol                  = "tcp"
  from_port                    = tonumber(each.value)
  to_port                      = tonumber(each.value)
}

resource "aws_vpc_security_group_ingress_rule" "from_balancer" {
  for_each = local.inside

  security_group_id            = aws_security_group.tasks.id
  description                  = "from the balancer"
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = tonumber(each.value)
  to_port                      = tonumber(each.value)
}

resource "aws_vpc_security_group_egress_rule" "anywhere" {
  security_group_id = aws_security_group.tasks.id
  description       = "S3, DNS, and the services that filters call"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

# A balancer of the other scheme is made before the old one goes; its DNS name is another one.
resource "aws_lb" "this" {
  name_prefix                      = substr("${var.name}-", 0, 6)
  load_balancer_type               = "network"
  internal                         = !var.public
  subnets                          = length(var.eips) == 0 ? var.balancer_subnet_ids : null
  security_groups                  = [aws_security_group.balancer.id]
  enable_cross_zone_load_balancing = true
  tags                             = { Name = var.name }

  dynamic "subnet_mapping" {
    for_each = var.eips

    content {
      subnet_id     = var.balancer_subnet_ids[subnet_mapping.key]
      allocation_id = subnet_mapping.value
    }
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = length(var.eips) == 0 || var.public && length(var.eips) == length(var.balancer_subnet_ids)
      error_message = "eips: give one address for each subnet of a public load balancer."
    }

    precondition {
      condition     = length(local.clients) > 0
      error_message = "No client reaches the load balancer: set clients, or public."
    }
  }
}

# A target group stays at the balancer that it is attached to, so those of another scheme are others.
resource "terraform_data" "scheme" {
  input = var.public
}

resource "aws_lb_target_group" "this" {
  for_each = var.ports

  name_prefix          = substr("${each.value.outside}-", 0, 6)
  port                 = each.value.inside
  protocol             = "TCP"
  target_type          = "ip"
  vpc_id               = var.vpc_id
  proxy_protocol_v2    = true
  preserve_client_ip   = false
  deregistration_delay = 90

  health_check {
    protocol            = "HTTP"
    port                = local.health
    path                = "/healthz"
    interval            = 10
    timeout             = 6
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }

  tags = { Name = "${var.name}-${each.value.outside}" }

  lifecycle {
    create_before_destroy = true
    replace_triggered_by  = [terraform_data.scheme]
  }
}

resource "aws_lb_listener" "this" {
  for_each = var.ports

  load_balancer_arn = aws_lb.this.arn
  port              = each.value.outside
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.key].arn
  }
}
