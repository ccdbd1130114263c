variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "The function's region."
  type        = string
}

variable "name" {
  description = "The prefix of names."
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

variable "topic" {
  description = "The topic of the spool's notifications, in full."
  type        = string
}

variable "source_zip" {
  description = "The function's source, as infra.bundle.gcp makes it."
  type        = string
}

variable "runtime" {
  description = "The function's runtime."
  type        = string
  default     = "python313"
}

variable "threads" {
  description = "Requests that one instance handles at a time."
  type        = number
}

variable "memory_mib" {
  description = "Memory of one instance, in MiB. Half of it is for mails: a mail takes five times its size."
  type        = number
  default     = 1024
}

variable "timeout" {
  description = "Seconds that a request may take. The subscription waits for twice as long."
  type        = number
  default     = 300

  validation {
    condition     = var.timeout >= 120 && var.timeout <= 300
    error_message = "Between 120, because no effect starts with less than 35 s left, and 300, because a subscription waits for at most 600 s."
  }
}

variable "connector" {
  description = "A connector of Serverless VPC Access in the function's region, in full; null for none."
  type        = string
  default     = null
}

variable "all_traffic" {
  description = "True if all traffic leaves through the connector, not only that to private addresses."
  type        = bool
  default     = false
}

variable "max_instances" {
  description = "Instances at most. With `threads` it bounds the mails that are delivered at a time."
  type        = number
}

variable "buckets" {
  description = "Buckets that outputs store into, with the prefixes of names."
  type        = list(object({ bucket = string, prefix = string }))
}

variable "topics" {
  description = "Topics that outputs publish to; a project of null is this one."
  type        = list(object({ project = optional(string), topic = string }))
}

variable "secrets" {
  description = "Secrets that outputs read."
  type        = list(object({ project = string, secret = string }))
}

variable "ephemeral" {
  description = "True if destroying deletes the source; it can be made again."
  type        = bool
  default     = false
}

variable "notification_channels" {
  description = "Notification channels that alerts go to."
  type        = list(string)
  default     = []
}

variable "oldest_minutes" {
  description = "Minutes after which an unfinished mail raises an alert."
  type        = number
  default     = 30
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}
