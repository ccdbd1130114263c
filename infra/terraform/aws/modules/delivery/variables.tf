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

variable "buses" {
  description = "The ARNs of the EventBridge buses that outputs publish to."
  type        = list(string)
  default     = []
}

variable "receipts" {
  description = "True if an output takes receipts: then there is a table for them."
  type        = bool
}

variable "concurrency" {
  description = "Most concurrent instances of the function."
  type        = number
  default     = 50
}

variable "ses" {
  description = "True if an output sends through SES: then the instances share its send rate, and there is an alarm."
  type        = bool
  default     = false
}

variable "memory" {
  description = "MB of the function's memory."
  type        = number
  default     = 1024
}

variable "timeout" {
  description = "Seconds that a run of the function may take."
  type        = number
  default     = 120
}

variable "vpc_id" {
  description = "The network of subnet_ids."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "Subnets of the function; none if it runs in no network."
  type        = list(string)
  default     = []
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
