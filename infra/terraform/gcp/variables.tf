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
  description = "The folder that `python -m infra.bundle.gcp CONFIG --out FOLDER` made: function.zip, relay.json, access.json."
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
  description = "The VPC network of the instance group or worker pool: its self link or name."
  type        = string
  default     = "default"
}

variable "subnetwork" {
  description = "The subnetwork; it needs Private Google Access, because the machines have no public addresses."
  type        = string
  default     = "default"
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
