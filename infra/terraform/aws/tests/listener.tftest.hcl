# The listener's module without an account: tests/unit/infra/terraform/test_aws_plans.py runs it.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  name                = "relay"
  place               = { partition = "aws", region = "eu-west-1", account = "123456789012" }
  bucket              = "spool"
  bucket_arn          = "arn:aws:s3:::spool"
  policy              = "tests/policy.json.tftpl"
  image               = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/relay:1"
  config              = "{}"
  listeners           = "[]"
  ports               = { "25" = { outside = 25, inside = 10025 }, "587" = { outside = 587, inside = 10587 } }
  public              = true
  vpc_id              = "vpc-1"
  vpc_cidrs           = ["10.0.0.0/16", "100.64.0.0/16"]
  balancer_subnet_ids = ["subnet-1", "subnet-2"]
  task_subnet_ids     = ["subnet-1", "subnet-2"]
  before              = ["arn:aws:lambda:eu-west-1:123456789012:function:relay", null]
}

run "strangers_reach_a_public_balancer" {
  command = plan

  module {
    source = "./modules/listener"
  }

  assert {
    condition     = !aws_lb.this.internal && toset(aws_lb.this.subnets) == toset(["subnet-1", "subnet-2"])
    error_message = "It is in the subnets, with an address for strangers."
  }

  assert {
    condition     = [for one in aws_vpc_security_group_ingress_rule.clients : one.cidr_ipv4] == ["0.0.0.0/0", "0.0.0.0/0"]
    error_message = "Each port admits every address."
  }

  assert {
    condition     = alltrue([for one in aws_lb_target_group.this : one.proxy_protocol_v2 && one.health_check[0].protocol == "HTTP"])
    error_message = "Targets get the client's address, and are asked for their health over HTTP."
  }
}

# A network may have more than one block of addresses.
run "every_block_reaches_an_internal_balancer" {
  command = plan

  module {
    source = "./modules/listener"
  }

  variables {
    public = false
  }

  assert {
    condition     = aws_lb.this.internal
    error_message = "It has no address for strangers."
  }

  assert {
    condition     = toset([for one in aws_vpc_security_group_ingress_rule.clients : one.cidr_ipv4]) == toset(["10.0.0.0/16", "100.64.0.0/16"])
    error_message = "All blocks of the network, and only they."
  }

  assert {
    condition     = strcontains(aws_ecs_task_definition.this.container_definitions, "\"SMTP_RELAY_TRUSTED_PROXIES\",\"value\":\"0.0.0.0/0\"")
    error_message = "The balancer's nodes may be in any block."
  }
}

run "a_task_writes_to_a_volume_of_its_own_alone" {
  command = plan

  module {
    source = "./modules/listener"
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem
    error_message = "The root file system is read-only."
  }

  assert {
    condition     = one(aws_ecs_task_definition.this.volume).name == "tmp" && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].mountPoints == [{ containerPath = "/tmp", readOnly = false, sourceVolume = "tmp" }] && jsondecode(aws_ecs_task_definition.this.container_definitions)[0].workingDirectory == "/tmp"
    error_message = "Large mails go to the volume."
  }

  assert {
    condition     = aws_ecs_service.this.availability_zone_rebalancing == "ENABLED"
    error_message = "Tasks are spread over the zones again after one has failed."
  }
}

run "an_internal_balancer_without_clients_is_refused" {
  command = plan

  module {
    source = "./modules/listener"
  }

  variables {
    public    = false
    vpc_cidrs = []
  }

  expect_failures = [aws_lb.this]
}

run "addresses_that_stay" {
  command = plan

  module {
    source = "./modules/listener"
  }

  variables {
    eips = ["eipalloc-1", "eipalloc-2"]
  }

  assert {
    condition     = toset([for one in aws_lb.this.subnet_mapping : "${one.subnet_id} ${one.allocation_id}"]) == toset(["subnet-1 eipalloc-1", "subnet-2 eipalloc-2"])
    error_message = "One address for each subnet."
  }
}

run "too_few_addresses_are_refused" {
  command = plan

  module {
    source = "./modules/listener"
  }

  variables {
    eips = ["eipalloc-1"]
  }

  expect_failures = [aws_lb.this]
}

run "sizes_are_settings" {
  command = plan

  module {
    source = "./modules/listener"
  }

  variables {
    cpu         = 1024
    memory      = 4096
    least       = 4
    most        = 40
    quiet_hours = 3
  }

  assert {
    condition     = aws_ecs_task_definition.this.cpu == "1024" && aws_ecs_task_definition.this.memory == "4096"
    error_message = "The task's size."
  }

  assert {
    condition     = aws_ecs_service.this.desired_count == 4 && aws_appautoscaling_target.this[0].max_capacity == 40
    error_message = "The number of tasks."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.watched["quiet"].evaluation_periods == 3
    error_message = "The hours without mail."
  }
}
