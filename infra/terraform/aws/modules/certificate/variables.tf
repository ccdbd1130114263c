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

variable "certificate_arn" {
  description = "The exportable certificate of ACM, of the same region."
  type        = string
}

variable "secret" {
  description = "The secret of the configuration: a name, which is made, or the ARN of one that is there."
  type        = string
}

variable "archive" {
  description = "The function's zip."
  type        = string
}

variable "runtime" {
  description = "The function's runtime."
  type        = string
}

variable "environment" {
  description = "More variables for the function."
  type        = map(string)
  default     = {}
}
