# The mail of a domain goes to a bucket. Strangers reach the load balancer of a new network.
#
#   python -m infra.bundle.aws configs/mail2s3.jsonc --out build/relay
#   terraform -chdir=infra/terraform/aws/examples/mail-to-s3 apply -var build=$PWD/build/relay -var image=REPOSITORY:1

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

module "relay" {
  source = "../.."

  build = var.build
  image = var.image
}

output "listener_endpoint" {
  description = "The load balancer's name."
  value       = module.relay.listener_endpoint
}
