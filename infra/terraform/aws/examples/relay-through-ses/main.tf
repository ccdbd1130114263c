# Applications of an existing network send through SES. No other client reaches the load balancer.
#
#   python -m infra.bundle.aws configs/aws-smtp-relay.jsonc --out build/relay --public false
#   terraform -chdir=infra/terraform/aws/examples/relay-through-ses apply -var build=$PWD/build/relay -var image=REPOSITORY:1

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 6.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "smtp-relay" }
  }
}

variable "region" {
  description = "The region of everything."
  type        = string
  default     = "eu-west-1"
}

variable "build" {
  description = "The folder that infra.bundle.aws made."
  type        = string
}

variable "image" {
  description = "The listener's image, built for arm64."
  type        = string
}

variable "vpc_id" {
  description = "The network of the applications."
  type        = string
}

variable "private_subnet_ids" {
  description = "Its private subnets, with NAT, or endpoints for S3, ECR (api and dkr), logs and secretsmanager."
  type        = list(string)
}

module "relay" {
  source = "../.."

  build               = var.build
  image               = var.image
  vpc_id              = var.vpc_id
  balancer_subnet_ids = var.private_subnet_ids
  task_subnet_ids     = var.private_subnet_ids
}

output "listener_endpoint" {
  description = "The load balancer's name."
  value       = module.relay.listener_endpoint
}
