# Tasks on Fargate, which receive mail and put it into the spool.

locals {
  health = 9090
  inside = toset([for port in concat([for one in var.ports : one.inside], [local.health]) : tostring(port)])
  repository = try(
    regex("^(?P<account>[0-9]{12})[.]dkr[.]ecr[.](?P<region>[a-z0-9-]+)[.]amazonaws[.]com(?:[.]cn)?/(?P<name>[a-z0-9._/-]+)", var.image),
    null,
  )
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/listener"
  retention_in_days = 30
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# Amazon ECS, "Amazon ECS task IAM role": the confused deputy.
data "aws_iam_policy_document" "task" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.place.account]
    }
  }
}

resource "aws_iam_role" "task" {
  name_prefix        = "${var.name}-listener-"
  assume_role_policy = data.aws_iam_policy_document.task.json
}

resource "aws_iam_role_policy" "task" {
  name = "own"
  role = aws_iam_role.task.id

  policy = templatefile(var.policy, merge(var.place, {
    bucket    = var.bucket_arn
    queue     = ""
    table     = ""
    log_group = ""
    key       = var.key_arn == null ? "" : var.key_arn
    limits    = var.limits ? aws_dynamodb_table.limits[0].arn : ""
  }))
}

# The counts of sending-policy, which the tasks share. A lost one only frees the limits once.
resource "aws_dynamodb_table" "limits" {
  count = var.limits ? 1 : 0

  name         = "${var.name}-limits"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }

  ttl {
    attribute_name = "expiration"
    enabled        = true
  }
}

resource "aws_iam_role" "start" {
  name_prefix        = "${var.name}-start-"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "start" {
  name   = "own"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.start.json
}

data "aws_iam_policy_document" "start" {
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${var.place.partition}:logs:${var.place.region}:${var.place.account}:log-group:${aws_cloudwatch_log_group.this.name}:*"]
  }

  dynamic "statement" {
    for_each = local.repository == null ? [] : [local.repository]

    content {
      sid       = "Pull"
      actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = ["arn:${var.place.partition}:ecr:${statement.value.region}:${statement.value.account}:repository/${statement.value.name}"]
    }
  }

  dynamic "statement" {
    for_each = local.repository == null ? [] : [local.repository]

    content {
      sid       = "PullToken"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
}

resource "aws_ecs_task_definition" "this" {
  family                   = "${var.name}-listener"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.start.arn

  runtime_platform {
    cpu_architecture        = "ARM64"
    operating_system_family = "LINUX"
  }

  # The only folder that a task may write to; the image declares it as a volume. Large mails that arrive are
  # files below the working folder.
  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name                   = "listener"
    image                  = var.image
    essential              = true
    user                   = "10025:10025"
    readonlyRootFilesystem = true
    workingDirectory       = "/tmp"
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    stopTimeout            = 120

    environment = concat([
      { name = "SMTP_RELAY_CONFIG_JSON", value = var.config },
      { name = "SMTP_RELAY_SPOOL", value = trimsuffix("s3://${var.bucket}/${var.prefix}", "/") },
      { name = "SMTP_RELAY_LISTENERS", value = var.listeners },
      # The security group admits the balancer alone, whose nodes may have addresses of any block.
      { name = "SMTP_RELAY_TRUSTED_PROXIES", value = "0.0.0.0/0" },
      { name = "SMTP_RELAY_HEALTH_PORT", value = tostring(local.health) },
    ], var.limits ? [{ name = "SMTP_RELAY_LIMITS_TABLE", value = aws_dynamodb_table.limits[0].name }] : [])

    portMappings = [for port in local.inside : { containerPort = tonumber(port), protocol = "tcp" }]

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = var.place.region
        awslogs-stream-prefix = "listener"
      }
    }
  }])
}

# No other resource refers to them, but they must be made first.
resource "terraform_data" "function" {
  input = var.before
}

resource "aws_ecs_service" "this" {
  name                               = var.name
  cluster                            = aws_ecs_cluster.this.id
  task_definition                    = aws_ecs_task_definition.this.arn
  launch_type                        = "FARGATE"
  desired_count                      = var.least
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  availability_zone_rebalancing      = "ENABLED"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.task_subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = var.assign_public_ip
  }

  dynamic "load_balancer" {
    for_each = var.ports

    content {
      target_group_arn = aws_lb_target_group.this[load_balancer.key].arn
      container_name   = "listener"
      container_port   = load_balancer.value.inside
    }
  }

  # Scaling sets their number.
  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.this, aws_iam_role_policy.task, aws_iam_role_policy.start, terraform_data.function]
}

resource "aws_appautoscaling_target" "this" {
  count = var.autoscaling ? 1 : 0

  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.least
  max_capacity       = var.most
}

resource "aws_appautoscaling_policy" "busy" {
  count = var.autoscaling ? 1 : 0

  name               = "${var.name}-busy"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this[0].service_namespace
  resource_id        = aws_appautoscaling_target.this[0].resource_id
  scalable_dimension = aws_appautoscaling_target.this[0].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value = 50

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
