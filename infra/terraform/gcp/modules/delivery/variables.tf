variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "The function's region."
  type        = string
}

variable "name" {
  description = "What names begin with."
  type        = string
}

variable "bucket" {
  description = "The spool's bucket."
  type        = string
}

variable "prefix" {
  description = "What keys of the spool begin with, without a slash at the end."
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
  default     = "python312"
}

variable "threads" {
  description = "Requests that one instance handles at a time."
  type        = number
  default     = 8
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
    error_message = "Between 120, since no effect starts with less than 35 s left, and 300, since a subscription waits for 600 s at most."
  }
}

variable "max_instances" {
  description = "Instances at most."
  type        = number
  default     = 20
}

variable "buckets" {
  description = "Buckets that outputs store into, with what names begin with."
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
  description = "Whether destroying takes the source with it; it can be made again."
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
