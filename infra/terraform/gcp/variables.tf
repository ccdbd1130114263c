variable "project" {
  description = "The project of all resources."
  type        = string
}

variable "region" {
  description = "The region of the bucket, the function and the listener."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "The prefix of all names."
  type        = string
  default     = "smtp-relay"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "Lower-case letters, digits and hyphens, 3 to 20 of them, because service accounts take no more."
  }
}

variable "build" {
  description = "The folder that `python -m infra.bundle.gcp CONFIG --out FOLDER` made: function.zip, relay.json, access.json, deployment.json."
  type        = string
}

variable "prefix" {
  description = "The prefix of keys in the spool bucket, without a slash at the end."
  type        = string
  default     = "relay"

  validation {
    condition     = var.prefix != "" && !startswith(var.prefix, "/") && !endswith(var.prefix, "/")
    error_message = "A path without a slash at either end."
  }
}

variable "ephemeral" {
  description = "True if destroying may delete unfinished mail: for tests. Otherwise a bucket that holds objects is not destroyed."
  type        = bool
  default     = false
}

variable "listener" {
  description = "The kind of listener: `external` or `internal` (a managed instance group behind a passthrough load balancer), `sidecar` (beside a Cloud Run service), `worker-pool` (experimental), or `none`."
  type        = string
  default     = "internal"

  validation {
    condition     = contains(["external", "internal", "sidecar", "worker-pool", "none"], var.listener)
    error_message = "One of external, internal, sidecar, worker-pool, none."
  }
}

variable "image" {
  description = "The listener's image, with its tag or digest; not needed with `none`."
  type        = string
  default     = ""
}

variable "listeners" {
  description = "SMTP_RELAY_LISTENERS of the instance group: the container's listeners, by the port that clients see (25, 465 or 587)."
  type        = map(object({ port = number, secure = optional(bool, false) }))
  default = {
    "25" = { port = 10025 }
  }
}

variable "network" {
  description = "The VPC network of the instance group or worker pool: its name or self link. Null makes one, with Private Google Access and, if filters ask the internet, Cloud NAT."
  type        = string
  default     = null
}

variable "subnetwork" {
  description = "A subnetwork of `network`: its name or self link. It needs Private Google Access, because the machines have no public addresses. Null: the network's name."
  type        = string
  default     = null
}

variable "network_cidr" {
  description = "The addresses of the network that is made without `network`."
  type        = string
  default     = "10.80.0.0/24"
}

variable "nat" {
  description = "True for Cloud NAT. Null: in a network that is made, if `filters` of the configuration ask the internet."
  type        = bool
  default     = null
}

variable "clients" {
  description = "Address ranges that may speak SMTP to the listener."
  type        = list(string)
  default     = ["10.0.0.0/8"]
}

variable "application" {
  description = "The application beside the sidecar: its image, the port it serves HTTP on, and whether it keeps SMTP connections open (CPU is then always allocated)."
  type = object({
    image             = string
    port              = optional(number, 8080)
    keeps_connections = optional(bool, false)
  })
  default = null
}

variable "notification_channels" {
  description = "Notification channels that alerts go to."
  type        = list(string)
  default     = []
}

variable "quiet_hours" {
  description = "Hours without an accepted mail that raise an alert, 0 for none."
  type        = number
  default     = 24

  validation {
    condition     = var.quiet_hours >= 0 && var.quiet_hours <= 24
    error_message = "From 0 to 24, because Cloud Monitoring looks back 25 hours."
  }
}

variable "machine_type" {
  description = "The machines of the instance group."
  type        = string
  default     = "e2-small"
}

variable "machine_image" {
  description = "The machines' image: a family of Container-Optimized OS with long-term support."
  type        = string
  default     = "projects/cos-cloud/global/images/family/cos-125-lts"
}

variable "size" {
  description = "Machines, or instances of the worker pool: how many at least and at most."
  type        = object({ min = number, max = number })
  default     = { min = 2, max = 10 }

  validation {
    condition     = var.size.min >= 1 && var.size.max >= var.size.min
    error_message = "min is 1 or more, and max is not below it. No listener at all is listener = \"none\"."
  }
}

variable "listener_memory" {
  description = "Memory of the listener's container on Cloud Run (`sidecar`, `worker-pool`)."
  type        = string
  default     = "512Mi"
}

variable "function_memory" {
  description = "MiB of memory of one instance of the function. Half of it is for mails: a mail takes five times its size."
  type        = number
  default     = 1024
}

variable "function_timeout" {
  description = "Seconds that a request to the function may take, 120 to 300."
  type        = number
  default     = 300
}

variable "function_connector" {
  description = "A connector of Serverless VPC Access in the region, as projects/PROJECT/locations/REGION/connectors/NAME, for a smarthost that only your network reaches; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.function_connector == null || can(regex("^projects/[^/]+/locations/[^/]+/connectors/[^/]+$", coalesce(var.function_connector, "-")))
    error_message = "The connector in full: projects/PROJECT/locations/REGION/connectors/NAME."
  }
}

variable "function_all_traffic" {
  description = "True if all of the function's traffic leaves through its connector: with Cloud NAT there it has a fixed address, for a smarthost that allow-lists one."
  type        = bool
  default     = false
}

variable "max_instances" {
  description = "Instances of the function at most. Null: from `delivery.concurrency` of the configuration."
  type        = number
  default     = null
}

variable "runtime" {
  description = "The function's runtime."
  type        = string
  default     = "python313"
}

variable "kms_key" {
  description = "A key of Cloud KMS for the spool, in its location; null for Google's own. The agent of Cloud Storage needs to be its encrypter and decrypter."
  type        = string
  default     = null
}

variable "enable_apis" {
  description = "True to enable the APIs that the deployment uses; destroying leaves them enabled."
  type        = bool
  default     = false
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}
