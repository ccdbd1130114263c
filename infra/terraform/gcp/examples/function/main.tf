# The function alone: a listener elsewhere (Kubernetes, another cloud) writes into the bucket.
# First: python -m infra.bundle.gcp relay.jsonc --public false --out build

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.50, < 8"
    }
  }

  # The state holds the configuration: keep it in a bucket that few may read.
  # backend "gcs" {
  #   bucket = "my-project-terraform"
  #   prefix = "smtp-relay"
  # }
}

provider "google" {
  project = var.project
  region  = "europe-west1"
}

variable "project" {
  description = "The project."
  type        = string
}

module "relay" {
  source = "../.."

  project  = var.project
  build    = "${path.root}/../../../../../build"
  listener = "none"
  labels   = { app = "smtp-relay" }
}

output "spool" {
  description = "SMTP_RELAY_SPOOL of the listener."
  value       = module.relay.spool
}
