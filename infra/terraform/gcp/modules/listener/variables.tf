variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "The listener's region."
  type        = string
}

variable "name" {
  description = "The prefix of names."
  type        = string
}

variable "kind" {
  description = "`external` or `internal` (a managed instance group behind a passthrough load balancer), `sidecar` (beside a Cloud Run service), or `worker-pool` (experimental)."
  type        = string

  validation {
    condition     = contains(["external", "internal", "sidecar", "worker-pool"], var.kind)
    error_message = "One of external, internal, sidecar, worker-pool."
  }
}

variable "public" {
  description = "True if the configuration was checked as one that strangers reach, which `external` needs."
  type        = bool
}

variable "image" {
  description = "The listener's image, with its tag or digest."
  type        = string

  validation {
    condition     = var.image != ""
    error_message = "Give the listener's image."
  }
}

variable "config" {
  description = "The configuration as JSON text. It names secrets and holds none."
  type        = string
}

variable "bucket" {
  description = "The spool's bucket."
  type        = string
}

variable "prefix" {
  description = "The prefix of the spool's keys, without a slash at the end."
  type        = string
}

variable "secrets" {
  description = "Secrets that filters and the server read."
  type        = list(object({ project = string, secret = string }))
}

variable "listeners" {
  description = "The container's listeners, by the port that clients of the load balancer see."
  type        = map(object({ port = number, secure = optional(bool, false) }))

  validation {
    condition     = length(var.listeners) > 0
    error_message = "Give at least one."
  }
}

variable "network" {
  description = "The VPC network; null for a sidecar."
  type        = string
}

variable "subnetwork" {
  description = "The subnetwork; null for a sidecar."
  type        = string
}

variable "clients" {
  description = "Address ranges that may speak SMTP to the listener."
  type        = list(string)
}

variable "machine_type" {
  description = "The machines of the instance group."
  type        = string
}

variable "machine_image" {
  description = "The machines' image: a family of Container-Optimized OS with long-term support."
  type        = string
}

variable "size" {
  description = "Machines, or instances of the worker pool: how many at least and at most."
  type        = object({ min = number, max = number })
}

variable "memory" {
  description = "Memory of a container on Cloud Run (`sidecar`, `worker-pool`)."
  type        = string
}

variable "application" {
  description = "The application beside the sidecar."
  type = object({
    image             = string
    port              = optional(number, 8080)
    keeps_connections = optional(bool, false)
  })
  default = null
}

variable "quiet_hours" {
  description = "Hours without an accepted mail that raise an alert, 0 for none."
  type        = number
}

variable "notification_channels" {
  description = "Notification channels that alerts go to."
  type        = list(string)
  default     = []
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}
