variable "name" {
  description = "The prefix of names."
  type        = string
}

variable "place" {
  description = "Partition, region and account."
  type = object({
    partition = string
    region    = string
    account   = string
  })
}

variable "bucket" {
  description = "The spool's bucket."
  type        = string
}

variable "bucket_arn" {
  description = "The ARN of the spool's bucket."
  type        = string
}

variable "prefix" {
  description = "The prefix of the spool's keys: empty, or a path that ends in a slash."
  type        = string
  default     = ""
}

variable "key_arn" {
  description = "The KMS key of the spool, null for none."
  type        = string
  default     = null
}

variable "archive" {
  description = "The function's zip."
  type        = string
}

variable "policy" {
  description = "The template of the function's policy."
  type        = string
}

variable "runtime" {
  description = "The function's runtime: that of the zip's byte-code."
  type        = string
}

variable "architecture" {
  description = "arm64 or x86_64: that of the zip's packages."
  type        = string
  default     = "arm64"
}

variable "receipts" {
  description = "True if an output takes receipts: then there is a table for them."
  type        = bool
}

variable "concurrency" {
  description = "How many instances share the send rate of SES; null for no limit."
  type        = number
  default     = null
}

variable "environment" {
  description = "More variables for the function."
  type        = map(string)
  default     = {}
}

variable "ephemeral" {
  description = "True if destroying may delete the table of receipts: for tests."
  type        = bool
  default     = false
}

variable "alarms" {
  description = "True if there are alarms."
  type        = bool
  default     = true
}

variable "alarm_topic_arn" {
  description = "The SNS topic that alarms go to; null for none."
  type        = string
  default     = null
}
