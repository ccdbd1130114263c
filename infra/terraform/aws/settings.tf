# Settings that do not go together.

resource "terraform_data" "settings" {
  lifecycle {
    precondition {
      condition     = length(var.function_subnet_ids) == 0 || var.vpc_id != null
      error_message = "function_subnet_ids names subnets of no network: set vpc_id."
    }

    precondition {
      condition     = var.vpc_id == null || length(var.balancer_subnet_ids) > 0 && length(var.task_subnet_ids) > 0
      error_message = "vpc_id names a network without subnets: set balancer_subnet_ids and task_subnet_ids."
    }

    precondition {
      condition     = var.vpc_id != null || length(var.balancer_subnet_ids) + length(var.task_subnet_ids) == 0
      error_message = "balancer_subnet_ids and task_subnet_ids name subnets of no network: set vpc_id."
    }

    precondition {
      condition     = var.certificate_arn == null || local.deployment.certificate_secret != null
      error_message = "certificate_arn has no secret to go to: write \"cert\": \"secretsmanager:NAME\" into options of the configuration, without key."
    }
  }
}
