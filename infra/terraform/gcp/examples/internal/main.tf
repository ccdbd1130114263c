# A relay for the applications of a network: mail goes on to a smarthost.
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

variable "image" {
  description = "The listener's image, with its tag or digest."
  type        = string
}

module "relay" {
  source = "../.."

  project  = var.project
  build    = "${path.root}/../../../../../build"
  image    = var.image
  listener = "internal"
  network  = "default"
  clients  = ["10.0.0.0/8"]
  labels   = { app = "smtp-relay" }

  listeners = {
    "587" = { port = 10587 }
  }
}

output "listener" {
  description = "The address for SMTP."
  value       = module.relay.listener
}
